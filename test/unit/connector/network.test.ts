import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { isReason, parseIp } from '../../../src/base/index.ts';
import type { NetworkChoice } from '../../../src/connector/index.ts';
import { checkChoice, readMapping } from '../../../src/connector/network/choice.ts';
import { desiredNetwork } from '../../../src/connector/network/desired.ts';
import { wire } from '../../../src/protocol/index.ts';

const isBadRequest = (error: unknown): boolean => isReason(error, 'connector.bad-request');

function desired(
  network: NetworkChoice,
  dns: { readonly excludeSuffixes?: string[]; readonly includeSuffixes?: string[] } = {},
) {
  const info = create(wire.ClusterInfoSchema, {
    podSubnets: [{ ip: Uint8Array.of(10, 244, 0, 0), mask: 16 }],
    serviceCidrs: [Uint8Array.of(10, 96, 0, 0, 12)],
    dns: { clusterDomain: 'cluster.local.', ...dns },
  });
  return desiredNetwork({
    cluster: 'https://example.test',
    info,
    namespace: 'shop',
    mappedNamespaces: ['shop', 'other'],
    apiServer: [parseIp('10.96.0.1') ?? new Uint8Array(4)],
    choice: checkChoice(network),
  });
}

test('a person’s subnets, exceptions and allowed conflicts are added to the cluster’s', () => {
  const made = desired({
    alsoProxy: ['10.20.0.0/16', '192.0.2.9'],
    neverProxy: ['10.96.7.7'],
    allowConflicting: ['10.0.0.0/8'],
  });
  assert.deepEqual(made.subnets, ['10.96.0.0/12', '10.244.0.0/16', '10.20.0.0/16', '192.0.2.9/32']);
  assert.deepEqual(made.neverProxy, ['10.96.0.1/32', '10.96.7.7/32']);
  assert.deepEqual(made.allowConflicting, ['10.0.0.0/8']);
});

test('addresses are translated only when that is asked for', () => {
  assert.deepEqual(desired({}).virtualSubnets, []);
  assert.equal(desired({ translateConflicts: true }).virtualSubnets[0], '246.246.0.0/16');
  assert.deepEqual(desired({ translateConflicts: true, virtualSubnet: '100.64.0.0/16' }).virtualSubnets, [
    '100.64.0.0/16',
  ]);
});

test('excluded suffixes are a person’s, else the cluster’s, else ours', () => {
  assert.deepEqual(desired({}).dns.excludeSuffixes, ['.com', '.io', '.net', '.org', '.ru']);
  assert.deepEqual(desired({}, { excludeSuffixes: ['.corp'] }).dns.excludeSuffixes, ['.corp']);
  assert.deepEqual(
    desired({ dns: { excludeSuffixes: ['.mine'] } }, { excludeSuffixes: ['.corp'] }).dns.excludeSuffixes,
    ['.mine'],
  );
});

test('included suffixes, exclusions, mappings and the time limit reach the daemon', () => {
  const dns = {
    includeSuffixes: ['.internal'],
    excludes: ['db.shop'],
    mappings: [readMapping('db.local = db.shop.')],
    timeoutMs: 900,
  };
  const made = desired({ dns }, { includeSuffixes: ['.corp'] }).dns;
  assert.deepEqual(made.includeSuffixes, ['.corp', '.internal']);
  assert.deepEqual(made.excludes, ['db.shop']);
  assert.deepEqual(made.mappings, [{ name: 'db.local', aliasFor: 'db.shop' }]);
  assert.equal(made.timeoutMs, 900);
});

for (const network of [
  { alsoProxy: ['nonsense'] },
  { neverProxy: ['10.0.0.0/99'] },
  { allowConflicting: ['10.0.0.0/8; rm'] },
  { dns: { excludes: ['not a name'] } },
  { dns: { mappings: [{ name: 'x', aliasFor: '-' }] } },
  { dns: { timeoutMs: 1 } },
] satisfies NetworkChoice[]) {
  test(`${JSON.stringify(network)} is refused before anything begins`, () => {
    assert.throws(() => checkChoice(network), isBadRequest);
  });
}

test('a mapping without both sides is refused', () => {
  for (const text of ['db', '=db.shop', 'db=', 'a=b=c']) {
    assert.throws(() => readMapping(text), isBadRequest);
  }
});
