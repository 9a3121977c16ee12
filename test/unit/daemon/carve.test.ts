import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatSubnet } from '../../../src/base/index.ts';
import { carve, halves } from '../../../src/daemon/os/carve.ts';
import { toSubnet } from './machine.ts';

const text = (subnets: readonly string[], exceptions: readonly string[]): string[] =>
  carve(subnets.map(toSubnet), exceptions.map(toSubnet)).map(formatSubnet);

const cases: readonly [string, string[], string[], string[]][] = [
  ['nothing is left out', ['10.0.0.0/8'], [], ['10.0.0.0/8']],
  ['the exception lies elsewhere', ['10.0.0.0/8'], ['11.0.0.0/8', 'fd00::/8'], ['10.0.0.0/8']],
  ['the exception is a half', ['10.0.0.0/8'], ['10.128.0.0/9'], ['10.0.0.0/9']],
  ['the exception is one address', ['10.0.0.0/30'], ['10.0.0.1'], ['10.0.0.0/32', '10.0.0.2/31']],
  ['the exception covers the subnet', ['10.0.0.0/8', '11.0.0.0/8'], ['10.0.0.0/7'], []],
  ['the exception is the subnet', ['10.0.0.0/8', '12.0.0.0/8'], ['10.0.0.0/8'], ['12.0.0.0/8']],
  ['exceptions lie in each other', ['10.0.0.0/30'], ['10.0.0.1', '10.0.0.0/31'], ['10.0.0.2/31']],
  ['two subnets are the same', ['10.0.0.0/8', '10.0.0.0/8'], [], ['10.0.0.0/8']],
  ['it is IPv6', ['fd00::/126'], ['fd00::3'], ['fd00::/127', 'fd00::2/128']],
];
for (const [what, subnets, exceptions, expected] of cases) {
  test(`subnets without their exceptions, where ${what}`, () => {
    assert.deepEqual(text(subnets, exceptions), expected);
  });
}

test('an exception costs one route for each bit by which it is longer', () => {
  assert.equal(text(['10.0.0.0/8'], ['10.1.2.3']).length, 24);
  assert.equal(text(['fd00::/64'], ['fd00::1']).length, 64);
});

test('a single address has no halves', () => {
  assert.deepEqual(halves(toSubnet('10.0.0.1')), []);
});
