import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Machine, openMachine, startDaemon } from '../support/machine.ts';
import { seenBy, startFlows, startOutbound } from '../support/outbound.ts';
import { ports } from '../support/outbound-program.ts';

// A container on the developer's machine: another network namespace, whose packets the machine forwards to the device.
const limit = { timeout: 60_000 };
const inBox = ['ip', 'netns', 'exec', 'box'];
const families = [
  { name: 'IPv4', address: '10.201.0.7', bracketed: '10.201.0.7', ping: '-4' },
  { name: 'IPv6', address: 'fd00:201::7', bracketed: '[fd00:201::7]', ping: '-6' },
] as const;

let machine: Machine;

before(async () => {
  machine = await openMachine();
  for (const line of [
    'ip netns add box',
    'ip link add box0 type veth peer name eth0 netns box',
    'ip address add 172.30.0.1/24 dev box0',
    'ip address add fd30::1/64 dev box0 nodad',
    'ip link set box0 up',
    'ip -n box link set lo up',
    'ip -n box address add 172.30.0.2/24 dev eth0',
    'ip -n box address add fd30::2/64 dev eth0 nodad',
    'ip -n box link set eth0 up',
    'ip -n box route add default via 172.30.0.1',
    'ip -n box route add default via fd30::1',
    'sysctl -qw net.ipv4.ip_forward=1',
    'sysctl -qw net.ipv6.conf.all.forwarding=1',
  ]) {
    await machine.run(line.split(' '));
  }
  await startDaemon(machine);
  await startOutbound(machine, { network: { subnets: ['10.201.0.0/16', 'fd00:201::/64'] } });
}, limit);

after(() => machine?.close());

for (const { name, address, bracketed, ping } of families) {
  const flows = async (wanted: Partial<Parameters<typeof startFlows>[1]>) => {
    const { opened, right, errors } = await seenBy(
      startFlows(machine, { address, count: 50, timeoutMs: 15_000, ...wanted }, inBox),
    );
    return { opened, right, errors };
  };

  test(`a container reaches the cluster by TCP over ${name}, and its bytes arrive unchanged`, limit, async () => {
    // Over IPv4 most of it goes the short way.
    assert.deepEqual(await flows({ bytes: 1_000_001, count: 20 }), { opened: 20, right: 20, errors: {} });
    const answer = await machine.run([...inBox, 'curl', '-sS', '--max-time', '10', `http://${bracketed}/`]);
    assert.equal(answer, 'here');
  });

  test(`a container's datagrams over ${name} come back, whole or in fragments`, limit, async () => {
    for (const bytes of [64, 1_472, 20_000]) {
      assert.deepEqual(
        await flows({ protocol: 'udp', bytes }),
        { opened: 50, right: 50, errors: {} },
        `${bytes} bytes`,
      );
    }
  });

  test(`a container is told over ${name} who refuses it and what is not there`, limit, async () => {
    assert.deepEqual((await flows({ port: ports.refused })).errors, { ECONNREFUSED: 50 });
    assert.deepEqual((await flows({ port: ports.unreachable })).errors, { EHOSTUNREACH: 50 });
    assert.deepEqual((await flows({ protocol: 'udp', port: ports.refused })).errors, { ECONNREFUSED: 50 });
    assert.match(
      await machine.run([...inBox, 'ping', ping, '-c', '2', '-i', '0.2', '-W', '5', address]),
      / 0% packet loss/,
    );
  });

  test(`the machine and a container with the same source port are told apart over ${name}`, limit, async () => {
    const wanted = { address, count: 200, firstLocalPort: 30_000, timeoutMs: 15_000 };
    const both = await Promise.all([[], inBox].map((inside) => seenBy(startFlows(machine, wanted, inside))));
    assert.deepEqual(
      both.map(({ right }) => right),
      [200, 200],
    );
  });
}
