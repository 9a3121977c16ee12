import assert from 'node:assert/strict';
import { test } from 'node:test';
import { settled } from '../../manager/hand-clock.ts';
import { ask, createKit, type Kit, textOf, typeNumber } from './support.ts';

const node = '172.18.0.2';
const checkName = 'tel2-recursion-check.kube-system';

/** A cluster whose name server asks this machine's resolver, from `node`, for whatever it does not know itself. */
function onThisMachine(kit: Kit): void {
  kit.cluster.gate = async (name, qtype) => {
    const type = ['A', 'AAAA'].find((each) => typeNumber(each) === qtype) ?? String(qtype);
    await ask(kit, name.slice(0, -1), type, { from: node });
  };
}

test('a question that the cluster hands back to us is answered at once, and so is who asked first', async () => {
  const kit = createKit();
  onThisMachine(kit);
  assert.equal(textOf(await ask(kit, 'nowhere.service-a-ns.svc')), 'NXDOMAIN');
  assert.equal(kit.clock.nowMs(), 0);
  assert.equal(kit.clock.timers, 0);
  assert.equal(kit.cluster.asked.filter((each) => each.startsWith(checkName)).length, 1);
});

test('what the cluster does not know may still be the office’s, although the cluster asked back', async () => {
  const kit = createKit();
  onThisMachine(kit);
  kit.upstream.known.set('printer', '172.16.0.5');
  assert.equal(textOf(await ask(kit, 'printer')), 'NOERROR | printer A 172.16.0.5 60');
});

test('a cluster that asks for both families whatever it is asked does not wait for itself either', async () => {
  for (const type of ['A', 'AAAA', 'HTTPS']) {
    const kit = createKit();
    kit.upstream.known.set('printer', '172.16.0.5');
    kit.cluster.gate = async (name) => {
      await Promise.all(['A', 'AAAA'].map((each) => ask(kit, name.slice(0, -1), each, { from: node })));
    };
    assert.equal(textOf(await ask(kit, 'nowhere.service-a-ns.svc.cluster.local', type)), 'NXDOMAIN');
    assert.match(textOf(await ask(kit, 'printer', type)), /^NOERROR/);
    assert.equal(kit.clock.timers, 0);
  }
});

test('where programs and cluster ask from one address, both families are still answered together', async () => {
  const kit = createKit();
  onThisMachine(kit);
  await ask(kit, 'nowhere.svc', 'A', { from: node });
  const gate = Promise.withResolvers<void>();
  kit.cluster.gate = (_, qtype) => (qtype === 1 ? gate.promise : Promise.resolve());
  kit.cluster.add('web.svc.', { type: 'A', name: 'web.svc', ttl: 4, data: '10.96.0.1' });
  const both = ['A', 'AAAA'].map((type) => ask(kit, 'web.svc', type, { from: node }));
  await settled();
  gate.resolve();
  assert.deepEqual((await Promise.all(both)).map(textOf), ['NOERROR | web.svc A 10.96.0.1 4', 'NOERROR']);
});

test('once the cluster is known to ask back it is recognised by its address; others join as ever', async () => {
  const kit = createKit();
  onThisMachine(kit);
  await ask(kit, 'nowhere.svc');
  const gate = Promise.withResolvers<void>();
  kit.cluster.gate = () => gate.promise;
  kit.cluster.add('web.svc.', { type: 'A', name: 'web.svc', ttl: 4, data: '10.96.0.1' });
  const first = ask(kit, 'web.svc');
  const second = ask(kit, 'web.svc');
  assert.equal(textOf(await ask(kit, 'web.svc', 'A', { from: node })), 'NXDOMAIN');
  gate.resolve();
  assert.equal(textOf(await first), 'NOERROR | web.svc A 10.96.0.1 4');
  assert.equal(textOf(await second), 'NOERROR | web.svc A 10.96.0.1 4');
});

test('the inner answer is not remembered: it was no answer', async () => {
  const kit = createKit();
  onThisMachine(kit);
  const name = 'web.svc';
  kit.cluster.add(`${name}.`, { type: 'A', name, ttl: 4, data: '10.96.0.1' });
  assert.equal(textOf(await ask(kit, name)), 'NOERROR | web.svc A 10.96.0.1 4');
  assert.equal(textOf(await ask(kit, name, 'A', { from: node })), 'NOERROR | web.svc A 10.96.0.1 4');
});

test('a cluster elsewhere is checked only when two ask the same, and no more than once in a while', async () => {
  const kit = createKit();
  const gate = Promise.withResolvers<void>();
  kit.cluster.gate = () => gate.promise;
  const all = [ask(kit, 'web.svc.cluster.local')];
  await settled();
  assert.ok(!kit.cluster.asked.some((each) => each.startsWith(checkName)));
  all.push(ask(kit, 'web.svc.cluster.local'), ask(kit, 'web.svc.cluster.local'));
  await settled();
  assert.equal(kit.cluster.asked.filter((each) => each.startsWith(checkName)).length, 1);
  gate.resolve();
  await Promise.all(all);
});

test('the name of the check asked by a stranger changes nothing', async () => {
  const kit = createKit();
  assert.equal(textOf(await ask(kit, checkName, 'A', { from: '127.0.0.1' })), 'NXDOMAIN');
  const gate = Promise.withResolvers<void>();
  kit.cluster.gate = () => gate.promise;
  kit.cluster.add('web.svc.', { type: 'A', name: 'web.svc', ttl: 4, data: '10.96.0.1' });
  const both = [ask(kit, 'web.svc'), ask(kit, 'web.svc')];
  await settled();
  gate.resolve();
  assert.deepEqual((await Promise.all(both)).map(textOf), Array(2).fill('NOERROR | web.svc A 10.96.0.1 4'));
});
