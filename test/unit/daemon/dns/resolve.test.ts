import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { type Answer, decode } from 'dns-packet';
import { parseSubnet } from '../../../../src/base/index.ts';
import { settled } from '../../manager/hand-clock.ts';
import { ask, createKit, FakeCluster, question, textOf } from './support.ts';

const a = (name: string, data: string, ttl = 4): Answer => ({ type: 'A', name, ttl, data });
const aaaa = (name: string, data: string, ttl = 4): Answer => ({ type: 'AAAA', name, ttl, data });

test('a cluster name is answered from the cluster, another one by upstream', async () => {
  const kit = createKit();
  kit.cluster.add('service-a.service-a-ns.', a('service-a.service-a-ns', '10.96.0.1'));
  kit.upstream.known.set('intranet.office.example', '172.16.0.9');
  assert.equal(textOf(await ask(kit, 'service-a.service-a-ns')), 'NOERROR | service-a.service-a-ns A 10.96.0.1 4');
  assert.equal(textOf(await ask(kit, 'intranet.office.example')), 'NOERROR | intranet.office.example A 172.16.0.9 60');
  assert.deepEqual(kit.cluster.asked, ['service-a.service-a-ns. 1']);
});

test('what goes upstream goes byte for byte, and so does its answer', async () => {
  const kit = createKit();
  const message = question('intranet.office.example', 'HTTPS', { opt: { dnssecOk: true } });
  const reply = await kit.resolver.answer(message, 'udp', '127.0.0.1');
  assert.deepEqual(kit.upstream.messages, [message]);
  assert.ok(reply);
  assert.equal(textOf(decode(reply)), 'NXDOMAIN');
});

test('an answer has the id, the spelling and the flags of its question', async () => {
  const kit = createKit();
  kit.cluster.add('web.svc.', a('web.svc', '10.96.0.1'));
  const answer = await ask(kit, 'WeB.sVc', 'A', { id: 7, flags: 0x110 });
  assert.equal(textOf(answer), 'NOERROR | WeB.sVc A 10.96.0.1 4');
  assert.deepEqual(
    [answer.id, answer.questions?.[0]?.name, answer.flag_rd, answer.flag_ra, answer.flag_cd, answer.flag_qr],
    [7, 'WeB.sVc', true, true, true, true],
  );
});

test('the name that was asked stands in the answer also where the peer answers with the long form', async () => {
  const kit = createKit();
  kit.cluster.add('web.', a('web.service-a-ns.svc.cluster.local', '10.96.0.1'));
  assert.equal(textOf(await ask(kit, 'web')), 'NOERROR | web A 10.96.0.1 4');
});

test('a name below the search device is answered for what stands before it', async () => {
  const kit = createKit();
  kit.cluster.add('web.', a('web', '10.96.0.1'));
  assert.equal(textOf(await ask(kit, 'web.tel2-search')), 'NOERROR | web.tel2-search A 10.96.0.1 4');
  assert.equal(textOf(await ask(kit, 'www.example.com.tel2-search')), 'NXDOMAIN');
  assert.deepEqual(kit.upstream.messages, []);
});

test('an alias from the cluster keeps its chain', async () => {
  const kit = createKit();
  kit.cluster.add(
    'web.svc.',
    { type: 'CNAME', name: 'web.svc', ttl: 4, data: 'real.example' },
    a('real.example', '203.0.113.4'),
  );
  assert.equal(
    textOf(await ask(kit, 'web.svc')),
    'NOERROR | web.svc CNAME real.example 4 | real.example A 203.0.113.4 4',
  );
});

const allTypes: [type: string, answer: Answer, text: string][] = [
  [
    'MX',
    { type: 'MX', name: 'web.svc', ttl: 4, data: { preference: 5, exchange: 'mail.svc' } },
    '{"preference":5,"exchange":"mail.svc"}',
  ],
  ['NS', { type: 'NS', name: 'web.svc', ttl: 4, data: 'ns.svc' }, 'ns.svc'],
  ['CNAME', { type: 'CNAME', name: 'web.svc', ttl: 4, data: 'real.svc' }, 'real.svc'],
  [
    'SRV',
    { type: 'SRV', name: 'web.svc', ttl: 4, data: { priority: 1, weight: 2, port: 80, target: 'pod.web.svc' } },
    '{"priority":1,"weight":2,"port":80,"target":"pod.web.svc"}',
  ],
  ['AAAA', aaaa('web.svc', 'fd00::7'), 'fd00::7'],
];
for (const [type, answer, text] of allTypes) {
  test(`${type} is asked at the cluster and answered`, async () => {
    const kit = createKit();
    kit.cluster.add('web.svc.', answer);
    assert.equal(textOf(await ask(kit, 'web.svc', type)), `NOERROR | web.svc ${type} ${text} 4`);
  });
}

test('TXT is asked at the cluster and answered', async () => {
  const kit = createKit();
  kit.cluster.add('web.svc.', { type: 'TXT', name: 'web.svc', ttl: 4, data: ['one', 'two'] });
  const answer = await ask(kit, 'web.svc', 'TXT');
  const [record] = answer.answers ?? [];
  assert.deepEqual(record && 'data' in record ? record.data : undefined, [Buffer.from('one'), Buffer.from('two')]);
});

test('a name that has only A is no unknown name to who asks for AAAA, nor the other way round', async () => {
  const kit = createKit();
  kit.cluster.add('four.svc.', a('four.svc', '10.96.0.1')).add('six.svc.', aaaa('six.svc', 'fd00::1'));
  assert.equal(textOf(await ask(kit, 'four.svc', 'AAAA')), 'NOERROR');
  assert.equal(textOf(await ask(kit, 'six.svc', 'A')), 'NOERROR');
  assert.equal(textOf(await ask(kit, 'four.svc', 'SRV')), 'NOERROR');
  assert.equal(textOf(await ask(kit, 'none.svc.cluster.local', 'AAAA')), 'NXDOMAIN');
});

for (const type of ['HTTPS', 'ANY', 'SOA', '64', '257']) {
  test(`type ${type} of a name that exists is empty, of one that does not is NXDOMAIN, and is never refused`, async () => {
    const kit = createKit();
    kit.cluster.add('web.svc.cluster.local.', a('web.svc.cluster.local', '10.96.0.1'));
    const of = async (name: string): Promise<string> => {
      const message = question(name);
      message.writeUInt16BE({ HTTPS: 65, ANY: 255, SOA: 6 }[type] ?? Number(type), message.length - 4);
      const reply = await kit.resolver.answer(message, 'udp', '127.0.0.1');
      assert.ok(reply);
      return textOf(decode(reply));
    };
    assert.equal(await of('web.svc.cluster.local'), 'NOERROR');
    assert.equal(await of('none.svc.cluster.local'), 'NXDOMAIN');
  });
}

test('zone transfers and classes other than IN are refused for names of the cluster', async () => {
  const kit = createKit();
  assert.equal(textOf(await ask(kit, 'web.svc', 'AXFR', { transport: 'tcp' })), 'REFUSED');
  const chaos = question('web.svc', 'TXT');
  chaos.writeUInt16BE(3, chaos.length - 2);
  const reply = await kit.resolver.answer(chaos, 'udp', '127.0.0.1');
  assert.ok(reply);
  assert.equal(textOf(decode(reply)), 'REFUSED');
  assert.deepEqual(kit.cluster.asked, []);
});

test('a name of one label is asked at the cluster first, then upstream', async () => {
  const kit = createKit();
  kit.cluster.add('web.', a('web', '10.96.0.1'));
  kit.upstream.known.set('printer', '172.16.0.5').set('web', '172.16.0.6');
  assert.equal(textOf(await ask(kit, 'web')), 'NOERROR | web A 10.96.0.1 4');
  assert.equal(textOf(await ask(kit, 'printer')), 'NOERROR | printer A 172.16.0.5 60');
  assert.equal(textOf(await ask(kit, 'nowhere')), 'NXDOMAIN');
});

test('the network of the office is reached also while the cluster does not answer', async () => {
  const kit = createKit();
  kit.cluster.rcode = 2;
  kit.upstream.known.set('printer', '172.16.0.5');
  assert.equal(textOf(await ask(kit, 'printer')), 'NOERROR | printer A 172.16.0.5 60');
  // What upstream says about a name that the cluster could not be asked for must not count as its absence.
  assert.equal(textOf(await ask(kit, 'web')), 'SERVFAIL');
});

test('names of the cluster’s domain never leave for upstream', async () => {
  const kit = createKit();
  assert.equal(textOf(await ask(kit, 'none.service-a-ns.svc.cluster.local')), 'NXDOMAIN');
  assert.deepEqual(kit.upstream.messages, []);
});

test('a reverse name of the cluster’s subnets is asked at the cluster, any other upstream', async () => {
  const subnet = parseSubnet('10.96.0.0/16');
  assert.ok(subnet);
  const kit = createKit({}, [subnet]);
  const name = '7.0.96.10.in-addr.arpa';
  kit.cluster.add(`${name}.`, { type: 'PTR', name, ttl: 4, data: 'web.service-a-ns.svc.cluster.local' });
  assert.equal(textOf(await ask(kit, name, 'PTR')), `NOERROR | ${name} PTR web.service-a-ns.svc.cluster.local 4`);
  assert.equal(textOf(await ask(kit, name, 'A')), 'NOERROR');
  await ask(kit, '7.0.97.10.in-addr.arpa', 'PTR');
  assert.equal(kit.upstream.messages.length, 1);
});

const mappings = [
  { name: 'db', aliasFor: 'postgres.service-b-ns' },
  { name: 'site', aliasFor: 'www.office.example' },
  { name: 'four', aliasFor: '203.0.113.4' },
  { name: 'one', aliasFor: 'two' },
  { name: 'two', aliasFor: 'one' },
  { name: 'chain', aliasFor: 'db' },
];
test('a mapped name is an alias, answered with what it stands for', async () => {
  const kit = createKit({ mappings });
  kit.cluster.add('postgres.service-b-ns.', a('postgres.service-b-ns', '10.96.0.9'));
  const alias = 'db CNAME postgres.service-b-ns 4 | postgres.service-b-ns A 10.96.0.9 4';
  assert.equal(textOf(await ask(kit, 'db')), `NOERROR | ${alias}`);
  assert.equal(textOf(await ask(kit, 'chain')), `NOERROR | chain CNAME db 4 | ${alias}`);
  assert.equal(textOf(await ask(kit, 'db', 'CNAME')), 'NOERROR | db CNAME postgres.service-b-ns 4');
  assert.equal(textOf(await ask(kit, 'db', 'AAAA')), 'NOERROR | db CNAME postgres.service-b-ns 4');
});

test('a mapped name may stand for a name out there', async () => {
  const kit = createKit({ mappings });
  kit.upstream.known.set('www.office.example', '172.16.0.8');
  assert.equal(
    textOf(await ask(kit, 'site')),
    'NOERROR | site CNAME www.office.example 4 | www.office.example A 172.16.0.8 60',
  );
});

test('what a mapped name stands for is asked over TCP when it is too long', async () => {
  const kit = createKit({ mappings });
  kit.upstream.known.set('www.office.example', '172.16.0.8');
  kit.upstream.isLong = true;
  assert.match(textOf(await ask(kit, 'site')), /www.office.example A 172.16.0.8 60$/);
});

test('a mapped name may be an address: of one family', async () => {
  const kit = createKit({ mappings });
  assert.equal(textOf(await ask(kit, 'four')), 'NOERROR | four A 203.0.113.4 4');
  assert.equal(textOf(await ask(kit, 'four', 'AAAA')), 'NOERROR');
});

test('mappings that go round in a circle fail', async () => {
  const kit = createKit({ mappings });
  const answer = await ask(kit, 'one');
  assert.equal(textOf(answer).split(' ')[0], 'SERVFAIL');
});

test('the cache answers until the TTL is over, and counts it down', async () => {
  const kit = createKit();
  kit.cluster.add('web.svc.', a('web.svc', '10.96.0.1', 20), a('web.svc', '10.96.0.2', 10));
  await ask(kit, 'web.svc');
  kit.clock.advance(7_500);
  assert.equal(textOf(await ask(kit, 'WEB.svc')), 'NOERROR | WEB.svc A 10.96.0.1 13 | WEB.svc A 10.96.0.2 3');
  assert.equal(kit.cluster.asked.length, 1);
  kit.clock.advance(2_500);
  assert.equal(textOf(await ask(kit, 'web.svc')), 'NOERROR | web.svc A 10.96.0.1 20 | web.svc A 10.96.0.2 10');
  assert.equal(kit.cluster.asked.length, 2);
});

test('a long TTL is not believed: a pod that is gone is asked for anew', async () => {
  const kit = createKit();
  kit.cluster.add('web.svc.', a('web.svc', '10.96.0.1', 86_400));
  await ask(kit, 'web.svc');
  kit.clock.advance(30_000);
  await ask(kit, 'web.svc');
  assert.equal(kit.cluster.asked.length, 2);
});

test('that a name is unknown is remembered for a moment, a failure is not', async () => {
  const kit = createKit();
  await ask(kit, 'none.svc.cluster.local');
  const once = kit.cluster.asked.length;
  await ask(kit, 'none.svc.cluster.local');
  assert.equal(kit.cluster.asked.length, once);
  kit.clock.advance(2_000);
  await ask(kit, 'none.svc.cluster.local');
  assert.equal(kit.cluster.asked.length, 2 * once);

  kit.cluster.rcode = 2;
  await ask(kit, 'down.svc.cluster.local');
  kit.cluster.rcode = undefined;
  kit.cluster.add('down.svc.cluster.local.', a('down.svc.cluster.local', '10.96.0.4'));
  assert.equal(textOf(await ask(kit, 'down.svc.cluster.local')), 'NOERROR | down.svc.cluster.local A 10.96.0.4 4');
});

test('the same question by many at once is asked once', async () => {
  const kit = createKit();
  const gate = Promise.withResolvers<void>();
  kit.cluster.gate = () => gate.promise;
  kit.cluster.add('web.svc.', a('web.svc', '10.96.0.1'));
  const all = Array.from({ length: 20 }, (_, id) => ask(kit, 'web.svc', 'A', { id }));
  await settled();
  gate.resolve();
  for (const [id, answer] of (await Promise.all(all)).entries()) {
    assert.equal(textOf(answer), 'NOERROR | web.svc A 10.96.0.1 4');
    assert.equal(answer.id, id);
  }
  assert.equal(kit.cluster.asked.filter((each) => each === 'web.svc. 1').length, 1);
});

test('a cluster that does not answer is SERVFAIL after the limit, and counted', async () => {
  const kit = createKit();
  kit.cluster.gate = () => new Promise(() => undefined);
  const asked = ask(kit, 'web.svc.cluster.local');
  await settled();
  kit.clock.advance(3_999);
  await settled();
  kit.clock.advance(1);
  assert.equal(textOf(await asked), 'SERVFAIL');
  assert.deepEqual(kit.resolver.stats, { asked: 1, fromCache: 0, cluster: 1, upstream: 0, failed: 1, timedOut: 1 });
  assert.equal(kit.clock.timers, 0);
});

test('upstream that does not answer is SERVFAIL', async () => {
  const kit = createKit();
  kit.upstream.isSilent = true;
  const answer = await ask(kit, 'intranet.office.example', 'A', { opt: {} });
  assert.equal(textOf(answer), 'SERVFAIL');
  assert.equal(answer.additionals?.length, 1);
});

test('of several windows the first that claims a name is asked', async () => {
  const kit = createKit();
  const other = new FakeCluster().add('web.team-ns.', a('web.team-ns', '10.97.0.1')).add('web.', a('web', '10.97.0.2'));
  kit.cluster.add('web.', a('web', '10.96.0.1'));
  kit.resolver.configure([kit.cluster.client(), other.client({ namespace: 'team-ns', routedDomains: ['team-ns'] })]);
  assert.equal(textOf(await ask(kit, 'web')), 'NOERROR | web A 10.96.0.1 4');
  assert.equal(textOf(await ask(kit, 'web.team-ns')), 'NOERROR | web.team-ns A 10.97.0.1 4');
  assert.equal(textOf(await ask(kit, 'web.team-ns.tel2-search')), 'NOERROR | web.team-ns.tel2-search A 10.97.0.1 4');
});

test('a window that changes forgets what it knew, the others do not', async () => {
  const kit = createKit();
  const other = new FakeCluster().add('web.team-ns.', a('web.team-ns', '10.97.0.1'));
  const team = other.client({ namespace: 'team-ns', routedDomains: ['team-ns'] });
  kit.cluster.add('web.svc.', a('web.svc', '10.96.0.1'));
  kit.resolver.configure([kit.cluster.client(), team]);
  await ask(kit, 'web.svc');
  await ask(kit, 'web.team-ns');
  kit.resolver.configure([kit.cluster.client(), { ...team }]);
  assert.deepEqual([kit.cluster.asked.length, other.asked.length], [1, 1]);
  kit.resolver.configure([kit.cluster.client({ excludes: ['printer'] }), team]);
  await ask(kit, 'web.svc');
  await ask(kit, 'web.team-ns');
  assert.deepEqual([kit.cluster.asked.length, other.asked.length], [2, 1]);
});

test('an answer that was asked for under another configuration is not kept', async () => {
  const kit = createKit();
  const gate = Promise.withResolvers<void>();
  kit.cluster.gate = () => gate.promise;
  kit.cluster.add('web.svc.', a('web.svc', '10.96.0.1'));
  const late = ask(kit, 'web.svc');
  await settled();
  kit.resolver.configure([]);
  gate.resolve();
  await late;
  assert.equal(textOf(await ask(kit, 'web.svc')), 'NXDOMAIN');
  assert.equal(kit.upstream.messages.length, 1);
});

test('who asks the sanity name learns that the machine’s resolver is us', async () => {
  const kit = createKit();
  let seen = 0;
  kit.resolver.onSanityAsked(() => seen++);
  assert.equal(
    textOf(await ask(kit, 'jhfweoitnkgyeta.tel2-search')),
    'NOERROR | jhfweoitnkgyeta.tel2-search A 127.0.0.1 0',
  );
  assert.equal(seen, 1);
  assert.deepEqual(kit.cluster.asked, []);
});

test('what becomes of questions is counted', async () => {
  const kit = createKit();
  kit.cluster.add('web.svc.', a('web.svc', '10.96.0.1'));
  await ask(kit, 'web.svc');
  await ask(kit, 'web.svc');
  await ask(kit, 'intranet.office.example');
  assert.deepEqual(kit.resolver.stats, { asked: 3, fromCache: 1, cluster: 1, upstream: 1, failed: 0, timedOut: 0 });
});

test('a window that was replaced is forgotten, with all it knew', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const kit = createKit();
  const gone: WeakRef<object>[] = [];
  for (let number = 0; number < 20; number++) {
    const client = { ...kit.cluster.client(), lookup: async () => ({ rcode: 0, records: new Uint8Array(0) }) };
    gone.push(new WeakRef(client));
    kit.resolver.configure([client]);
    await kit.resolver.answer(question('web.svc'), 'udp', '127.0.0.1');
  }
  // Weak references hold until the end of the turn.
  await new Promise((resolve) => setImmediate(resolve));
  collect();
  assert.ok(gone.filter((each) => each.deref() !== undefined).length <= 2);
});

test('after sleep every name is asked anew', async () => {
  const kit = createKit();
  kit.cluster.add('web.svc.', a('web.svc', '10.96.0.1'));
  await ask(kit, 'web.svc');
  await ask(kit, 'web.svc');
  assert.equal(kit.cluster.asked.length, 1);
  kit.resolver.forget();
  kit.cluster.add('web.svc.', a('web.svc', '10.96.0.2'));
  assert.equal(textOf(await ask(kit, 'web.svc')), 'NOERROR | web.svc A 10.96.0.2 4');
});
