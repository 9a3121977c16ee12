import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as v from 'valibot';
import { silentLogger } from '../../../src/base/index.ts';
import type { V1ConfigMap } from '../../../src/kube/index.ts';
import { LiveConfig, parsePolicy } from '../../../src/manager/policy/live.ts';
import { refusalOf } from '../../../src/manager/policy/policy.ts';
import { interceptPolicySchema, parseConfigDuration, parseDuration } from '../../../src/protocol/index.ts';
import { FakeCluster } from './fake-cluster.ts';
import { interceptSpec } from './messages.ts';

const ann = { username: 'ann', groups: ['shop-team'] };
const whole = interceptSpec();
const filtered = interceptSpec({ mechanism: 'http', headerFilters: { 'x-user': 'ann' } });
const byPath = interceptSpec({ mechanism: 'http', pathFilters: [':path-prefix:/api'] });
const wiretap = interceptSpec({ wiretap: true });
const replace = interceptSpec({ replace: true });

type Given = v.InferInput<typeof interceptPolicySchema>;
const noWhole: Given = { allowGlobalIntercepts: false };
const noReplace: Given = { allowReplace: false };
const annOnly: Given = { allowed: [{ users: ['ann'] }] };
const team: Given = { allowed: [{ groups: ['shop-team'], namespaces: ['shop-*'], workloads: ['web', '*-api'] }] };

const wish = { user: ann, namespace: 'shop', workload: 'web', spec: whole };
const cases: readonly (readonly [string, Given, Partial<Parameters<typeof refusalOf>[1]>, string | undefined])[] = [
  ['nothing is said, everything goes', {}, {}, undefined],
  ['nothing is said, a caller without a token', {}, { user: undefined, spec: replace }, undefined],
  ['whole ports are forbidden, a whole port', noWhole, {}, 'manager.whole-port-forbidden'],
  ['whole ports are forbidden, a header', noWhole, { spec: filtered }, undefined],
  ['whole ports are forbidden, a path', noWhole, { spec: byPath }, undefined],
  ['whole ports are forbidden, a wiretap takes nothing', noWhole, { spec: wiretap }, undefined],
  ['whole ports are forbidden, replacing takes them all', noWhole, { spec: replace }, 'manager.whole-port-forbidden'],
  ['whole ports are forbidden, the environment alone', noWhole, { spec: undefined }, undefined],
  ['replacing is forbidden', noReplace, { spec: replace }, 'manager.replace-forbidden'],
  ['replacing is forbidden, a whole port', noReplace, {}, undefined],
  ['Ann alone, and it is Ann', annOnly, {}, undefined],
  ['Ann alone, and it is Bob', annOnly, { user: { username: 'bob' } }, 'manager.not-among-allowed'],
  ['Ann alone, and nobody knows', annOnly, { user: undefined }, 'manager.not-among-allowed'],
  ['Ann alone, the environment', annOnly, { user: { username: 'bob' }, spec: undefined }, 'manager.not-among-allowed'],
  ['a team in its namespaces', team, { namespace: 'shop-a' }, undefined],
  ['a team elsewhere', team, {}, 'manager.not-among-allowed'],
  ['a team, and another workload', team, { namespace: 'shop-a', workload: 'db' }, 'manager.not-among-allowed'],
  ['a team, and a workload by pattern', team, { namespace: 'shop-a', workload: 'pay-api' }, undefined],
  ['a pattern is no part of a name', team, { namespace: 'my-shop-a' }, 'manager.not-among-allowed'],
  ['a rule for everybody', { allowed: [{ namespaces: ['*'] }] }, { user: undefined }, undefined],
  ['a rule that names nobody', { allowed: [{ users: [] }] }, {}, 'manager.not-among-allowed'],
];
for (const [what, policy, asked, reason] of cases) {
  test(`policy: ${what}`, () => {
    assert.equal(refusalOf(v.parse(interceptPolicySchema, policy), { ...wish, ...asked })?.reason, reason);
  });
}

test('a pattern with many stars is tried in no time', () => {
  const policy = parsePolicy(JSON.stringify({ allowed: [{ workloads: [`${'a*'.repeat(60)}b`] }] }));
  assert.ok(refusalOf(policy, { ...wish, workload: 'a'.repeat(253) }));
});

test('times as owners write them', () => {
  assert.deepEqual(['', '90m', '1h30m', '2d', '8', 'soon'].map(parseDuration), [
    ...[undefined, 5_400_000, 5_400_000, 172_800_000, undefined, undefined],
  ]);
  assert.deepEqual([4, '4s', '250ms', undefined].map(parseConfigDuration), [4_000, 4_000, 250, undefined]);
});

const map = (data: Record<string, string>): V1ConfigMap & { kind: string } => ({
  kind: 'ConfigMap',
  metadata: { name: 'traffic-manager', namespace: 'ambassador' },
  data,
});

async function follow(...maps: V1ConfigMap[]) {
  const cluster = new FakeCluster(...(maps as never[]));
  const config = new LiveConfig(cluster.kube, 'ambassador', silentLogger);
  await config.ready();
  return { cluster, config };
}

test('the policy follows the config map, in YAML or JSON', async () => {
  const { cluster, config } = await follow();
  assert.equal(config.current.policy.allowGlobalIntercepts, true);
  let changes = 0;
  config.onChanged(() => changes++);
  cluster.put(map({ 'policy.yaml': 'allowGlobalIntercepts: false\n' }) as never);
  assert.equal(config.current.policy.allowGlobalIntercepts, false);
  cluster.put(map({ 'policy.yaml': '{"maxDuration": "8h"}' }) as never);
  assert.equal(config.current.policy.maxDuration, '8h');
  assert.equal(changes, 2);
});

test('a slip in the policy changes nothing; with one at the start nobody attaches', async () => {
  const slip = map({ 'policy.yaml': 'allowGlobalIntercept: false\n' });
  const { cluster, config } = await follow(map({ 'policy.yaml': '{"maxDuration": "8h"}' }));
  cluster.put(slip as never);
  assert.equal(config.current.policy.maxDuration, '8h');
  const { config: fresh } = await follow(slip);
  assert.equal(refusalOf(fresh.current.policy, wish)?.reason, 'manager.not-among-allowed');
});

test('what clients get is what the owner wrote, to the letter', async () => {
  const text = '# ours\ndns:\n  includeSuffixes: [.lan]\nfuture: 1\n';
  const { cluster, config } = await follow(map({ 'client.yaml': text }));
  assert.equal(config.current.clientYaml, text);
  assert.deepEqual(config.current.client.dns?.includeSuffixes, ['.lan']);
  cluster.put(map({ 'client.yaml': 'dns: [' }) as never);
  assert.equal(config.current.clientYaml, text);
});
