import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isReason, parseSubnet } from '../../../src/base/index.ts';
import { parseRoutes } from '../../../src/daemon/os/linux/network.ts';
import { checkConflicts, checkSubnets, ownAddress } from '../../../src/daemon/os/subnets.ts';
import { ip } from './packets.ts';

for (const subnet of [
  '0.0.0.0/0',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/8',
  '10.0.0.0/7',
  'nonsense',
  '::/0',
  'fe80::/64',
]) {
  test(`${subnet} is never routed`, () => {
    assert.throws(
      () => checkSubnets([subnet], []),
      (error) => isReason(error, 'daemon.forbidden-subnet'),
    );
  });
}

test('a subnet that holds the resolver in use is not routed', () => {
  assert.throws(
    () => checkSubnets(['10.0.0.0/8'], [ip('10.255.255.53')]),
    (error) => isReason(error, 'daemon.forbidden-subnet'),
  );
});

test('an overlap with an existing route is refused, with that route; the default route is none', () => {
  const subnet = parseSubnet('10.100.0.0/16');
  assert.ok(subnet);
  const vpn = parseRoutes('[{"dst":"default","gateway":"192.0.2.1","dev":"eth0"},{"dst":"10.0.0.0/8","dev":"tun9"}]');
  assert.throws(
    () => checkConflicts({ subnets: [subnet], allowConflicting: [] }, vpn, 'nf0'),
    /10\.0\.0\.0\/8 dev tun9/,
  );
  checkConflicts({ subnets: [subnet], allowConflicting: [] }, parseRoutes('[{"dst":"default","dev":"eth0"}]'), 'nf0');
});

test('the device’s own address is the network address of the first subnet of a family', () => {
  const subnets = checkSubnets(['10.100.7.0/16', 'fd00:1::/64'], []);
  assert.deepEqual(ownAddress(subnets, 4), ip('10.100.0.0'));
  assert.deepEqual(ownAddress(subnets, 16), ip('fd00:1::'));
});
