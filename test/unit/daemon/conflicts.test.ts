import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatSubnet, isReason, parseSubnet, type Subnet } from '../../../src/base/index.ts';
import { findConflicts, placeSubnets } from '../../../src/daemon/network/conflicts.ts';
import { parseRoutes } from '../../../src/daemon/os/linux/network.ts';

const virtual = ['246.246.0.0/16', 'fd6e:6561:7266::/112'].map(subnet);
const routes = parseRoutes(
  JSON.stringify([
    { dst: 'default', gateway: '192.0.2.1', dev: 'eth0' },
    { dst: '0.0.0.0/1', dev: 'tun8' },
    { dst: '10.0.0.0/8', gateway: '10.8.0.1', dev: 'tun9' },
    { dst: '172.17.0.0/16', dev: 'docker0' },
    { dst: '10.96.0.0/12', dev: 'nf0' },
    { dst: 'fd00:1::/64', dev: 'tun9' },
  ]),
);
const owners: Readonly<Record<string, string>> = { tun9: 'openvpn (process 7)' };
const ownerOf = async ({ device }: { readonly device: string }) => owners[device];

function subnet(text: string): Subnet {
  const parsed = parseSubnet(text);
  assert.ok(parsed);
  return parsed;
}

interface Question {
  readonly subnets: readonly string[];
  readonly allow?: readonly string[];
  readonly virtual?: readonly Subnet[];
  readonly before?: readonly string[];
}

async function place({ subnets, allow = [], virtual: stand = virtual, before = [] }: Question) {
  const question = { subnets: subnets.map(subnet), allowConflicting: allow.map(subnet), routes, device: 'nf0' };
  const [route] = routes;
  assert.ok(route);
  const earlier = before.map((text) => ({ subnet: subnet(text), route }));
  const placed = await placeSubnets(question, stand, earlier, ownerOf);
  return {
    subnets: placed.subnets.map(formatSubnet),
    translated: placed.translated.map((each) => formatSubnet(each.subnet)),
  };
}

test('a default route, whole or in halves, and our own are in nobody’s way', () => {
  const question = { subnets: [subnet('20.96.0.0/12')], allowConflicting: [], device: 'nf0', routes };
  assert.deepEqual(findConflicts(question), []);
});

test('an overlap is refused with the route, its device and the program that made it', async () => {
  await assert.rejects(place({ subnets: ['10.100.0.0/16'], virtual: [] }), (error: Error) => {
    assert.ok(isReason(error, 'daemon.subnet-conflict'));
    assert.match(
      error.message,
      /10\.100\.0\.0\/16 .* 10\.0\.0\.0\/8 via 10\.8\.0\.1 dev tun9, .* openvpn \(process 7\)/,
    );
    return true;
  });
});

test('an overlap that is allowed as a whole is routed; a part that is allowed says nothing about the rest', async () => {
  const subnets = ['10.100.0.0/16'];
  assert.deepEqual(await place({ subnets, allow: ['10.96.0.0/12'], virtual: [] }), { subnets, translated: [] });
  await assert.rejects(place({ subnets, allow: ['10.100.7.0/24'], virtual: [] }));
});

test('a narrower route inside a subnet is allowed by its own name', async () => {
  const subnets = ['172.16.0.0/12'];
  assert.deepEqual(await place({ subnets, allow: ['172.17.0.0/16'], virtual: [] }), { subnets, translated: [] });
});

test('virtual addresses of the same family stand in for what conflicts, and come last', async () => {
  assert.deepEqual(await place({ subnets: ['10.100.0.0/16', '192.168.9.0/24'] }), {
    subnets: ['192.168.9.0/24', '246.246.0.0/16'],
    translated: ['10.100.0.0/16'],
  });
  assert.deepEqual((await place({ subnets: ['fd00:1::/96'] })).subnets, ['fd6e:6561:7266::/112']);
});

test('what was translated once stays so until it is not wanted any more', async () => {
  const before = ['192.168.9.0/24'];
  assert.deepEqual((await place({ subnets: ['192.168.9.0/24'], before })).translated, before);
  assert.deepEqual((await place({ subnets: ['192.168.9.0/24'], before, allow: before })).translated, []);
  assert.deepEqual((await place({ subnets: ['192.168.10.0/24'], before })).translated, []);
});

test('a conflict of a family without virtual addresses, or with those themselves, is refused', async () => {
  await assert.rejects(place({ subnets: ['fd00:1::/96'], virtual: [subnet('246.246.0.0/16')] }), /fd00:1::\/96/);
  await assert.rejects(place({ subnets: ['10.100.0.0/16'], virtual: [subnet('172.17.3.0/24')] }), /docker0/);
  await assert.rejects(
    place({ subnets: ['10.100.0.0/16', '192.168.9.0/24'], virtual: [subnet('192.168.0.0/16')] }),
    (error) => isReason(error, 'daemon.forbidden-subnet'),
  );
});
