import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode } from 'dns-packet';
import { candidates, isName, serializeRecords } from '../../../src/manager/cluster/dns.ts';
import { clusterDomainOf } from '../../../src/manager/cluster/info.ts';

const searched: [string, string[]][] = [
  ['web.', ['web.shop.svc.cluster.local']],
  [
    'web.other.',
    ['web.other.shop.svc.cluster.local', 'web.other.svc.cluster.local', 'web.other.cluster.local', 'web.other'],
  ],
  ['web.other.svc.cluster.local.', ['web.other.svc.cluster.local']],
  ['cluster.local.', ['cluster.local']],
  ['a.b.c.d.e.', ['a.b.c.d.e']],
];

for (const [name, expected] of searched) {
  test(`${name} is looked for as ${expected.join(', ')}`, () => {
    assert.deepEqual(candidates(name, 'shop', 'cluster.local'), expected);
  });
}

test('a name that merely ends alike is not in the domain of the cluster', () => {
  assert.equal(candidates('notcluster.local.', 'shop', 'cluster.local').length, 4);
});

test('records are written one after the other, so that a message around them decodes', () => {
  const records = serializeRecords([
    { type: 'CNAME', name: 'web', ttl: 4, data: 'web.shop.svc.cluster.local' },
    { type: 'A', name: 'web.shop.svc.cluster.local', ttl: 4, data: '10.0.0.7' },
    { type: 'SRV', name: 'web', ttl: 4, data: { port: 80, target: 'x.y', priority: 1, weight: 2 } },
  ]);
  const header = Buffer.from([0, 1, 0x81, 0x80, 0, 0, 0, 3, 0, 0, 0, 0]);
  const { answers = [] } = decode(Buffer.concat([header, records]));
  assert.deepEqual(
    answers.map((each) => [each.type, each.name, 'data' in each ? each.data : undefined]),
    [
      ['CNAME', 'web', 'web.shop.svc.cluster.local'],
      ['A', 'web.shop.svc.cluster.local', '10.0.0.7'],
      ['SRV', 'web', { port: 80, target: 'x.y', priority: 1, weight: 2 }],
    ],
  );
});

const resolvConfs: [string, string][] = [
  ['search shop.svc.corp.example svc.corp.example corp.example\nnameserver 10.96.0.10', 'corp.example'],
  ['search shop.svc.cluster.local svc.cluster.local. cluster.local', 'cluster.local'],
  ['nameserver 10.96.0.10', 'cluster.local'],
];

for (const [text, expected] of resolvConfs) {
  test(`the domain of the cluster is ${expected} by ${text.split('\n')[0]}`, () => {
    assert.equal(clusterDomainOf(text), expected);
  });
}

for (const [name, expected] of [
  ['web.', true],
  ['_http._tcp.web.shop.svc.cluster.local.', true],
  ['a..b.', false],
  ['.', false],
  [`${'x'.repeat(64)}.shop.`, false],
  ['x.'.repeat(130), false],
] as const) {
  test(`${name.slice(0, 40)} ${expected ? 'is' : 'is not'} a name`, () => {
    assert.equal(isName(name), expected);
  });
}
