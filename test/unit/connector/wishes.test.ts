import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '../../../src/base/index.ts';
import { explainChoices, mergeChoices, readClientConfig, toChoice } from '../../../src/connector/network/wishes.ts';

const config = (text: string) => readClientConfig(new TextEncoder().encode(text), silentLogger);
const owner = toChoice(
  config(`
dns:
  includeSuffixes: [.lan]
  excludeSuffixes: [.com]
  lookupTimeout: 2s
  mappings: [{name: db, aliasFor: db.shop}]
routing:
  alsoProxySubnets: [10.7.0.0/16]
  neverProxySubnets: [10.7.1.0/24]
  autoResolveConflicts: true
cluster: {mappedNamespaces: [shop]}
timeouts: {intercept: 1m}
`),
);

test('the owner’s wishes hold where a person says nothing', () => {
  const merged = mergeChoices({ alsoProxy: [], translateConflicts: false, dns: { includeSuffixes: [] } }, owner);
  assert.deepEqual(merged.alsoProxy, ['10.7.0.0/16']);
  assert.equal(merged.translateConflicts, true);
  assert.deepEqual(merged.mappedNamespaces, ['shop']);
  assert.deepEqual(merged.dns?.excludeSuffixes, ['.com']);
  assert.equal(merged.dns?.timeoutMs, 2_000);
});

test('a person’s word counts more; what is so as well is added', () => {
  const merged = mergeChoices(
    {
      neverProxy: ['10.9.0.0/16'],
      mappedNamespaces: ['bank'],
      dns: { excludeSuffixes: ['.net'], includeSuffixes: ['.corp'], timeoutMs: 500 },
    },
    owner,
  );
  assert.deepEqual(merged.neverProxy, ['10.7.1.0/24', '10.9.0.0/16']);
  assert.deepEqual(merged.mappedNamespaces, ['bank']);
  assert.deepEqual(merged.dns?.excludeSuffixes, ['.net']);
  assert.deepEqual(merged.dns?.includeSuffixes, ['.lan', '.corp']);
  assert.equal(merged.dns?.timeoutMs, 500);
});

test('it is said whose a value is', () => {
  const views = explainChoices({ mappedNamespaces: ['bank'], dns: { includeSuffixes: ['.corp'] } }, owner);
  const of = (name: string) => views.filter((each) => each.name === name).map(({ value, from }) => `${from} ${value}`);
  assert.deepEqual(of('network.mappedNamespaces'), ['settings bank']);
  assert.deepEqual(of('dns.includeSuffixes'), ['settings .corp', 'cluster .lan']);
  assert.deepEqual(of('dns.mappings'), ['cluster db=db.shop']);
  assert.deepEqual(of('network.virtualSubnet'), []);
  assert.deepEqual(explainChoices({}, toChoice({})), []);
});

test('what cannot be read is as if nothing had been said', () => {
  for (const text of ['', 'dns: [', 'dns: {includeSuffixes: 3}', '- a list', '&a [*a]']) {
    assert.deepEqual(toChoice(config(text)).dns?.includeSuffixes, undefined, text);
  }
});
