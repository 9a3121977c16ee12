import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Machine, openMachine, startDaemon } from '../support/machine.ts';
import { startOffice } from '../support/office.ts';
import { seenBy, startFlows, startOutbound } from '../support/outbound.ts';
import { ports } from '../support/outbound-program.ts';

// Ordinary programs of this machine and a cluster that has IPv6 beside IPv4, or alone.
const limit = { timeout: 60_000 };
const address = 'fd00:201::7';
const office = '192.0.2.53';

let machine: Machine;

before(async () => {
  machine = await openMachine();
  await startOffice(machine, office, { 'intranet.office.example': '172.16.0.9' });
  await machine.run(['sh', '-c', `rm -f /etc/resolv.conf; echo nameserver ${office} >/etc/resolv.conf`]);
  await startDaemon(machine);
  await startOutbound(machine, {
    network: { subnets: ['10.201.0.0/16', 'fd00:201::/64'] },
    names: { 'six.default.': [address], 'both.default.': ['10.201.0.7', address], 'four.default.': ['10.201.0.7'] },
  });
}, limit);

after(() => machine?.close());

const flows = async (wanted: Partial<Parameters<typeof startFlows>[1]>) => {
  const { opened, right, errors } = await seenBy(
    startFlows(machine, { address, count: 50, timeoutMs: 15_000, ...wanted }),
  );
  return { opened, right, errors };
};
const all = { opened: 50, right: 50, errors: {} };

/** The exit code and what was printed. */
const tried = (...command: string[]): Promise<string> =>
  machine.run(['sh', '-c', '"$@" 2>&1; echo "exit $?"', 'sh', ...command]);

test('curl reaches an IPv6 service by its address and by its name', limit, async () => {
  for (const host of [`[${address}]`, 'six.default', 'both.default']) {
    const answer = await machine.run(['curl', '-6', '-sS', '--max-time', '10', `http://${host}/`]);
    assert.equal(answer, 'here', host);
  }
  assert.equal(await machine.run(['curl', '-sS', '--max-time', '10', 'http://both.default/']), 'here');
});

test('connections carry bytes unchanged, whichever side ends first', limit, async () => {
  assert.deepEqual(await flows({ bytes: 30_001 }), all);
  assert.deepEqual(await flows({ port: ports.endsFirst, isEndedByPeer: true }), all);
});

test('datagrams come back, whole and in fragments', limit, async () => {
  for (const bytes of [64, 1_452, 1_453, 30_000]) {
    assert.deepEqual(await flows({ protocol: 'udp', bytes }), all, `${bytes} bytes`);
  }
});

test('who refuses is heard as a reset or as ICMPv6, and what is not there as unreachable', limit, async () => {
  assert.deepEqual((await flows({ port: ports.refused })).errors, { ECONNREFUSED: 50 });
  assert.deepEqual((await flows({ port: ports.unreachable })).errors, { EHOSTUNREACH: 50 });
  assert.deepEqual((await flows({ protocol: 'udp', port: ports.refused })).errors, { ECONNREFUSED: 50 });
  assert.match(await tried('curl', '-6', '-sS', '--max-time', '5', `http://[${address}]:${ports.refused}/`), /exit 7/);
});

test('ping hears an echo, also of a size that is cut', limit, async () => {
  for (const size of ['56', '4000']) {
    assert.match(
      await tried('ping', '-6', '-c', '2', '-i', '0.2', '-W', '5', '-s', size, address),
      / 0% packet loss/,
      size,
    );
  }
});

test('names have the addresses of the families that the cluster says, and no others', limit, async () => {
  const dig = async (name: string, type: string): Promise<string> =>
    (await machine.run(['dig', '+short', '+time=5', '+tries=1', name, type])).trim();
  assert.equal(await dig('six.default', 'AAAA'), address);
  assert.equal(await dig('six.default', 'A'), '');
  assert.equal(await dig('four.default', 'AAAA'), '');
  assert.match(await machine.run(['dig', '+time=5', '+tries=1', 'four.default', 'AAAA']), /status: NOERROR/);
  assert.match(await machine.run(['getent', 'ahostsv6', 'six.default']), /^fd00:201::7 /);
  assert.match(
    await machine.run(['getent', 'ahosts', 'both.default']),
    /10\.201\.0\.7[\s\S]*fd00:201::7|fd00:201::7[\s\S]*10\.201\.0\.7/,
  );
});

test('a connection of before a restart of the daemon is unknown, and is reset at once', limit, async () => {
  // A segment of no connection: the kernel of the machine would retry a SYN, so the far end is told in its place.
  const probe = `
import socket, struct, time
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_TCP)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_CHECKSUM if hasattr(socket, 'IPV6_CHECKSUM') else 7, 16)
s.settimeout(5)
s.connect(('${address}', 0))
s.send(struct.pack('!HHIIBBHHH', 41000, 80, 1000, 2000, 0x50, 0x10, 1000, 0, 0))
end = time.time() + 5
while time.time() < end:
    got = s.recv(100)
    if got[2:4] == struct.pack('!H', 41000):
        print('rst' if got[13] & 4 else 'other')
        break
`;
  assert.match(await tried('/usr/bin/python3', '-c', probe), /^rst/);
});
