import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { run, succeeds, waitFor } from '../cluster/shell.ts';
import { type Machine, openMachine, startConnector, startDaemon } from '../support/machine.ts';
import { startOffice } from '../support/office.ts';
import { unpacked } from '../support/packages.ts';

// A real systemd-resolved on a bus of its own, and the programs that ask it: glibc by resolv.conf, dig, resolvectl.
const office = '192.0.2.53';
const intranet = { 'intranet.office.example': '172.16.0.9', 'vpn.corp.example': '172.16.0.10' };
const cluster = {
  network: { dns: { includeSuffixes: ['.corp.example'], excludes: ['vpn.corp.example'] } },
  names: {
    'service-a.default.': '10.201.0.7',
    'service-a.': '10.201.0.7',
    'service-a.default.svc.cluster.local.': '10.201.0.7',
    'git.corp.example.': '10.201.0.8',
  },
};

const resolved = '/usr/lib/systemd/systemd-resolved';
const shell = (machine: Machine, lines: string): Promise<string> =>
  machine.run(['env', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'bash', '-c', lines]);

async function openResolvedMachine(context: TestContext): Promise<Machine | undefined> {
  const packages = await unpacked(['systemd-resolved', 'libnss-resolve']);
  if (packages === undefined) {
    context.skip('no apt here');
    return undefined;
  }
  const machine = await openMachine({ packages });
  context.after(() => machine.close());
  await startOffice(machine, office, intranet);
  await shell(
    machine,
    `mkdir -p /run/dbus /run/systemd
    echo 'systemd-resolve:x:994:994::/:/usr/sbin/nologin' >>/etc/passwd
    echo 'systemd-resolve:x:994:' >>/etc/group
    printf '[Resolve]\\nDNS=${office}\\n' >/etc/systemd/resolved.conf
    ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
    ip link add eth0 type veth peer name eth1; ip link set eth1 up; ip link set eth0 up
    ip address add 198.51.100.2/24 dev eth0; ip route add default via 198.51.100.1
    dbus-daemon --system --fork`,
  );
  machine.start([resolved]);
  await waitFor('systemd-resolved', 10_000, async () =>
    (await ask(machine, 'intranet.office.example')) === '172.16.0.9' ? true : undefined,
  );
  return machine;
}

/** What a program that reads resolv.conf gets. */
const ask = async (machine: Machine, name: string): Promise<string | undefined> =>
  /^(\S+)/.exec(await machine.run(['getent', 'ahostsv4', name]).catch(() => ''))?.[1];

const status = async (machine: Machine): Promise<string> =>
  machine.run([process.execPath, machine.daemon, 'status', '--uid', '0', '--runtime-dir', machine.folder, '--json']);

/** Settings of links, and what resolv.conf says: what our device changes of it. */
const state = (machine: Machine): Promise<string> =>
  shell(
    machine,
    'resolvectl status | grep -v Current; cat /etc/resolv.conf; nft list ruleset; ls /run/systemd/resolve/netif 2>/dev/null || true',
  );

test('systemd-resolved asks us for the cluster’s names and the office for its own, and nothing is left', async (context) => {
  const machine = await openResolvedMachine(context);
  if (!machine) {
    return;
  }
  const before = await state(machine);
  const daemon = await startDaemon(machine);
  await startConnector(machine, cluster);
  assert.match(await status(machine), /"systemd-resolved"/);
  for (const name of ['service-a.default.svc.cluster.local', 'service-a.default', 'service-a']) {
    assert.equal(await ask(machine, name), '10.201.0.7', name);
  }
  assert.equal(await ask(machine, 'git.corp.example'), '10.201.0.8');
  assert.equal(await ask(machine, 'intranet.office.example'), '172.16.0.9');
  // Below a domain that is led to us, and not the cluster's: it must not come back to us as our own question.
  assert.equal(await ask(machine, 'vpn.corp.example'), '172.16.0.10');
  assert.match(await machine.run(['resolvectl', 'query', '-i', 'nf0', 'service-a.default']), /10\.201\.0\.7/);
  // No table: systemd-resolved was enough.
  assert.equal(await machine.run(['nft', 'list', 'tables']), '');
  await shell(machine, 'kill $(ps -C systemd-resolve -o pid=)');
  machine.start([resolved]);
  await waitFor('its return', 20_000, async () =>
    (await ask(machine, 'service-a.default')) === '10.201.0.7' ? true : undefined,
  );

  await daemon.kill();
  assert.equal(await state(machine), before);
  assert.equal(await ask(machine, 'service-a.default'), undefined);
  assert.equal(await ask(machine, 'intranet.office.example'), '172.16.0.9');

  const second = await startDaemon(machine);
  await startConnector(machine, cluster);
  assert.equal(await ask(machine, 'service-a.default'), '10.201.0.7');
  await second.kill('SIGKILL');
  await waitFor('the end of the device', 5_000, async () => ((await state(machine)) === before ? true : undefined));
});

test('a systemd-resolved that does not answer on the bus is passed over', async (context) => {
  const machine = await openResolvedMachine(context);
  if (!machine) {
    return;
  }
  await shell(machine, 'kill -STOP $(ps -C systemd-resolve -o pid=)');
  await startDaemon(machine);
  await startConnector(machine, cluster);
  assert.match(await status(machine), /"nft-redirect"/);
  assert.equal(await ask(machine, 'service-a.default'), '10.201.0.7');
});

test('programs that ask another resolver beside systemd-resolved find the cluster’s names as well', async (context) => {
  const machine = await openResolvedMachine(context);
  if (!machine) {
    return;
  }
  await shell(machine, `rm /etc/resolv.conf; echo 'nameserver ${office}' >/etc/resolv.conf`);
  await startDaemon(machine);
  await startConnector(machine, cluster);
  assert.match(await status(machine), /"systemd-resolved"/);
  assert.equal(await ask(machine, 'service-a.default'), '10.201.0.7');
  assert.match(await machine.run(['resolvectl', 'query', '-i', 'nf0', 'service-a.default']), /10\.201\.0\.7/);
  assert.equal(await ask(machine, 'vpn.corp.example'), '172.16.0.10');
});

test('programs of many kinds find the cluster’s names and the office’s through systemd-resolved', async (context) => {
  const machine = await openResolvedMachine(context);
  if (!machine) {
    return;
  }
  await startDaemon(machine);
  await startConnector(machine, cluster);
  const probes = join(import.meta.dirname, '../cluster/probes');
  const given = (name: string): string => join(machine.folder, name);
  const source = join(probes, 'names.c');
  await run('gcc', ['-O2', '-o', given('glibc'), source]);
  const kinds: (readonly string[])[] = [
    ['sh', join(probes, 'shell.sh'), 'dig'],
    ['sh', join(probes, 'shell.sh'), 'dig-tcp'],
    ['sh', join(probes, 'shell.sh'), 'getent'],
    [given('glibc')],
    [process.execPath, join(probes, 'names.mjs'), 'lookup'],
    [process.execPath, join(probes, 'names.mjs'), 'resolve'],
    ['/usr/bin/python3', join(probes, 'names.py')],
  ];
  if (await succeeds('musl-gcc', ['-static', '-O2', '-o', given('musl'), source])) {
    kinds.push([given('musl')]);
  }
  for (const [out, enabled, tag] of [
    ['go-pure', '0', 'netgo'],
    ['go-cgo', '1', 'netcgo'],
  ] as const) {
    const env = { ...process.env, CGO_ENABLED: enabled };
    const words = ['build', '-tags', tag, '-o', given(out), join(probes, 'names.go')];
    if (await succeeds('go', words, { env, timeoutMs: 120_000 })) {
      kinds.push([given(out)]);
    }
  }
  if (await succeeds('javac', ['-d', machine.folder, join(probes, 'Names.java')])) {
    kinds.push(['java', '-cp', machine.folder, 'Names']);
  }
  const expected = {
    'service-a.default.svc.cluster.local': '10.201.0.7',
    'service-a.default': '10.201.0.7',
    'SERVICE-A.Default': '10.201.0.7',
    'git.corp.example': '10.201.0.8',
    'vpn.corp.example': '172.16.0.10',
    'intranet.office.example': '172.16.0.9',
    'absent.default': '-',
  };
  for (const kind of kinds) {
    const output: string = await machine.run([...kind, ...Object.keys(expected)], { timeoutMs: 60_000 });
    const lines = output.trim().split('\n');
    const found: Record<string, string> = Object.fromEntries(lines.map((line: string) => line.split(' ')));
    assert.deepEqual(found, expected, kind.join(' '));
  }
  context.diagnostic(`${kinds.length} kinds`);
});
