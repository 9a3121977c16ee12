import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as dnsPacket from 'dns-packet';
import { type NameServer, PodNames, parseSearchList } from '../../../src/agent/dns/lookup.ts';
import { formatIp } from '../../../src/base/index.ts';

const search = parseSearchList(
  'nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\n',
);

/** A name server with these records; it writes down what it was asked. */
function server(records: Record<string, unknown>): NameServer & { readonly asked: string[] } {
  const asked: string[] = [];
  return {
    asked,
    resolve: (name, type) => {
      asked.push(`${name} ${type}`);
      const found = records[`${name} ${type}`];
      const code = found === 'fail' ? 'ESERVFAIL' : found === 'empty' ? 'ENODATA' : 'ENOTFOUND';
      return Array.isArray(found) ? Promise.resolve(found) : Promise.reject(Object.assign(new Error(), { code }));
    },
  };
}

const codec = (dnsPacket as unknown as { answer: { decode(bytes: Uint8Array): { name: string; data: unknown } } })
  .answer;

test('a short name is looked for as a program of the pod would', async () => {
  const names = server({ 'db.svc.cluster.local A': ['10.0.0.7'] });
  const { rCode, rrs } = await new PodNames(names, search).lookup('db.', 1);
  assert.equal(rCode, 0);
  const { name, data } = codec.decode(Buffer.from(rrs));
  assert.deepEqual([name, data], ['db', '10.0.0.7']);
  assert.deepEqual(names.asked, ['db.shop.svc.cluster.local A', 'db.svc.cluster.local A']);
});

for (const [what, qtype, record, data] of [
  ['SRV', 33, { name: 'a.b', port: 80, priority: 1, weight: 2 }, { priority: 1, weight: 2, port: 80, target: 'a.b' }],
  ['MX', 15, { exchange: 'mail.b', priority: 10 }, { preference: 10, exchange: 'mail.b' }],
  ['PTR', 12, 'web.shop', 'web.shop'],
] as const) {
  test(`a ${what} record keeps its meaning on the wire`, async () => {
    const names = server({ [`x.cluster.local ${what}`]: [record] });
    const { rrs } = await new PodNames(names, search).lookup('x.cluster.local.', qtype);
    assert.deepEqual(codec.decode(Buffer.from(rrs)).data, data);
  });
}

test('nothing there, nothing of this kind, a failure and an unknown type are four answers', async () => {
  const names = new PodNames(server({ 'a.cluster.local A': 'empty', 'b.cluster.local A': 'fail' }), search);
  const codes = [];
  for (const [name, qtype] of [
    ['none.cluster.local.', 1],
    ['a.cluster.local.', 1],
    ['b.cluster.local.', 1],
    ['a.cluster.local.', 99],
  ] as const) {
    codes.push((await names.lookup(name, qtype)).rCode);
  }
  assert.deepEqual(codes, [3, 0, 2, 4]);
});

test('all addresses of a name come at once', async () => {
  const names = server({ 'db.shop.svc.cluster.local A': ['10.0.0.7'], 'db.shop.svc.cluster.local AAAA': ['fd00::7'] });
  const found = await new PodNames(names, search).addresses('db.');
  assert.deepEqual(found.map(formatIp), ['10.0.0.7', 'fd00::7']);
});
