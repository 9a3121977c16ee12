import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isReason } from '../../../src/base/index.ts';
import { checkSubnets, ownAddress } from '../../../src/daemon/os/subnets.ts';
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

test('a virtual subnet may be reserved, but no broadcast and nothing else that is forbidden', () => {
  assert.equal(checkSubnets(['246.246.0.0/16'], [], { isVirtual: true }).length, 1);
  for (const subnet of ['255.255.255.0/24', '127.0.0.0/8', '224.0.0.0/8']) {
    assert.throws(
      () => checkSubnets([subnet], [], { isVirtual: true }),
      (error) => isReason(error, 'daemon.forbidden-subnet'),
    );
  }
});

test('the device’s own address is the network address of the first subnet of a family', () => {
  const subnets = checkSubnets(['10.100.7.0/16', 'fd00:1::/64'], []);
  assert.deepEqual(ownAddress(subnets, 4), ip('10.100.0.0'));
  assert.deepEqual(ownAddress(subnets, 16), ip('fd00:1::'));
});
