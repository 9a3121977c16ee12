import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { formatIp } from '../../../../src/base/index.ts';
import { createAddressPolicy, decideName } from '../../../../src/connector/proxy/policy.ts';
import { addressesIn, resolveHost } from '../../../../src/connector/proxy/resolve.ts';
import { parseTarget, sentenceOf } from '../../../../src/connector/proxy/words.ts';
import { createPolicy } from '../../../../src/daemon/dns/policy.ts';
import { HandClock, settled } from '../../manager/hand-clock.ts';
import { type Bench, clusterNames, ip, localNames, network, openBench, records } from './bench.ts';

let bench: Bench | undefined;
afterEach(() => bench?.close());

const daemonWords = { cluster: 'cluster', mapped: 'alias', upstream: 'here', refuse: 'refused' } as const;

for (const [host, verdict] of [
  ['service-a', 'cluster'],
  ['Service-A.', 'cluster'],
  ['service-a.service-a-ns', 'cluster'],
  ['service-a.service-a-ns.svc', 'cluster'],
  ['service-a.service-a-ns.svc.cluster.local', 'cluster only'],
  ['db.internal.example.com', 'cluster'],
  ['www.example.com', 'here'],
  ['registry.io', 'here'],
  ['service-a.another-ns', 'here'],
  ['localhost', 'here'],
  ['app.localhost', 'here'],
  ['forbidden', 'here'],
  ['forbidden.service-a-ns', 'here'],
  ['notforbidden', 'cluster'],
  ['db.example.com', 'alias'],
  ['xservice-a-ns', 'cluster'],
  ['a.xservice-a-ns', 'here'],
  ['', 'here'],
  ['www.example.com.service-a-ns', 'here'],
  ['com.service-a-ns', 'cluster'],
  ['service-a-ns', 'cluster'],
] as const) {
  test(`${host || 'an empty name'} is asked: ${verdict}, as the daemon does`, () => {
    const found = decideName(host, network.dns);
    assert.equal(found.kind === 'cluster' && found.only ? 'cluster only' : found.kind, verdict);
    const name = `${host.toLowerCase().replace(/\.$/, '')}.`;
    assert.equal(daemonWords[createPolicy(network.dns)(name).kind], verdict.replace(' only', ''));
  });
}

for (const [address, isInside] of [
  ['10.100.0.2', true],
  ['10.100.0.1', false],
  ['10.101.0.1', false],
  ['192.168.189.7', true],
  ['fd00::7', true],
  ['fd01::7', false],
  ['127.0.0.1', false],
] as const) {
  test(`${address} is ${isInside ? '' : 'not '}the cluster’s`, () => {
    assert.equal(createAddressPolicy(network)(ip(address)), isInside);
  });
}

const resolverOf = (asked: string[] = []) => ({
  clock: new HandClock(),
  lookup: async (name: string, qtype: number) => {
    asked.push(`${name} ${qtype}`);
    const all = (clusterNames[name] ?? []).map(ip).filter(({ length }) => (qtype === 1 ? length === 4 : length === 16));
    return { rcode: name in clusterNames ? 0 : 3, records: records(all) };
  },
  lookupHere: async (name: string) => (localNames[name] ?? []).map(ip),
});

for (const [host, addresses, questions] of [
  ['10.1.2.3', ['10.1.2.3'], []],
  ['fd00::1', ['fd00::1'], []],
  ['service-a', ['10.100.0.10'], ['service-a. 1']],
  ['SERVICE-A.service-a-ns', ['10.100.0.10'], ['service-a.service-a-ns. 1']],
  ['six.service-a-ns', ['fd00::6'], ['six.service-a-ns. 1', 'six.service-a-ns. 28']],
  ['printer', ['127.0.0.1'], ['printer. 1']],
  ['nobody', [], ['nobody. 1']],
  ['nobody.svc.cluster.local', [], ['nobody.svc.cluster.local. 1']],
  ['this-machine.example.org', ['127.0.0.1'], []],
  ['db.example.com', ['10.100.0.20'], ['service-b.service-b-ns. 1']],
  ['fixed.example.com', ['10.100.7.7'], []],
  ['loop.example.com', [], []],
] as const) {
  test(`${host} resolves to ${addresses.join(', ') || 'nothing'}`, async () => {
    const asked: string[] = [];
    const found = await resolveHost(resolverOf(asked), host, network.dns);
    assert.deepEqual(found.map(formatIp), addresses);
    assert.deepEqual(asked, questions);
  });
}

test('a resolver of this machine that hangs is given up', async () => {
  const clock = new HandClock();
  const hanging = { ...resolverOf(), clock, lookupHere: () => new Promise<never>(() => undefined) };
  const found = resolveHost(hanging, 'www.example.org', network.dns);
  await settled();
  clock.advance(5_000);
  assert.deepEqual(await found, []);
});

test('records that are cut off or of other types are passed over', () => {
  const two = records([ip('10.0.0.1'), ip('fd00::2')]);
  assert.deepEqual(addressesIn(two).map(formatIp), ['10.0.0.1', 'fd00::2']);
  assert.deepEqual(addressesIn(two.subarray(0, two.length - 3)).map(formatIp), ['10.0.0.1']);
  assert.deepEqual(addressesIn(Uint8Array.of(255, 255, 1)), []);
});

const reached = async (host: string, port = 80): Promise<string> => {
  const made = await openBench();
  bench = made;
  const { result } = await made.targets.dialTcp({ host, port }, new AbortController().signal);
  return `${result} ${made.tunnels.asked.join(' ')}`.trim();
};

test('a cluster name is dialled in the cluster', async () => {
  assert.equal(await reached('service-a.service-a-ns', 8080), 'ok tcp 10.100.0.10:8080');
});

test('an address of the cluster is dialled there without a question', async () => {
  assert.equal(await reached('10.100.3.4', 443), 'ok tcp 10.100.3.4:443');
});

test('a name of this machine’s resolver that leads into the cluster is dialled there', async () => {
  assert.equal(await reached('private.example.org'), 'ok tcp 10.100.0.30:80');
});

test('a cluster name that leads outside is dialled from here', async () => {
  assert.equal(await reached('outside.service-a-ns', 1), 'refused');
});

test('a name that nobody knows is said to be that', async () => {
  assert.equal(await reached('nobody.service-a-ns'), 'unknown');
});

test('a cluster that cannot be asked is no unknown name', async () => {
  assert.equal(await reached('broken.service-a-ns'), 'failed');
});

for (const [text, host, port] of [
  ['a.b:80', 'a.b', 80],
  ['[fd00::1]:443', 'fd00::1', 443],
  ['10.0.0.1:65535', '10.0.0.1', 65_535],
] as const) {
  test(`${text} is a target`, () => assert.deepEqual(parseTarget(text), { host, port }));
}

for (const text of [
  '',
  'a',
  'a:',
  ':80',
  'a:0',
  'a:65536',
  'a:-1',
  'a:8o',
  'fd00::1:80',
  'a b:80',
  'a\r\nb:80',
  'u@a:80',
  '[a]:1',
]) {
  test(`${JSON.stringify(text)} is no target`, () => assert.equal(parseTarget(text), undefined));
}

test('each failure has a sentence of its own that names the target', () => {
  const failures = ['refused', 'unreachable', 'timeout', 'prohibited', 'unknown', 'failed'] as const;
  const sentences = failures.map((each) => sentenceOf(each, { host: 'service-a', port: 80 }));
  assert.equal(new Set(sentences).size, failures.length);
  assert.ok(sentences.every((each) => /service-a.*\.$/.test(each)));
});
