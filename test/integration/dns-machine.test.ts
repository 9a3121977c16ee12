import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { run } from '../cluster/shell.ts';

/**
 * Real resolvers of programs against the server, on a machine of its own (a network namespace): its resolv.conf names
 * the office's resolver, and a redirect like the daemon's leads the questions to the server.
 */
const namespace = 'nf-dns-machine';
const table = 'dns-machine-test';
const office4 = '192.0.2.53';
const office6 = '2001:db8::53';
const node = '192.0.2.99';
const sourcePorts = [30_053, 30_054, 30_055, 30_056, 30_057, 30_058];
const options = { skip: process.getuid?.() === 0 ? false : 'needs root', timeout: 30_000 };
let machine: ChildProcess | undefined;

const inside = (...command: string[]): Promise<string> => run('ip', ['netns', 'exec', namespace, ...command]);
const dig = async (...args: string[]): Promise<string> => (await inside('dig', '+tries=1', '+time=3', ...args)).trim();
const short = (...args: string[]): Promise<string> => dig('+short', ...args);

before(async () => {
  if (options.skip) {
    return;
  }
  await down();
  await run('ip', ['netns', 'add', namespace]);
  await mkdir(`/etc/netns/${namespace}`, { recursive: true });
  await writeFile(`/etc/netns/${namespace}/resolv.conf`, `nameserver ${office4}\nnameserver ${office6}\n`);
  await inside('ip', 'link', 'set', 'lo', 'up');
  for (const address of [`${office4}/32`, `${node}/32`, '198.51.100.1/32']) {
    await inside('ip', 'address', 'add', address, 'dev', 'lo');
  }
  await inside('ip', 'address', 'add', `${office6}/128`, 'dev', 'lo', 'nodad');
  const script = new URL('./support/dns-machine.ts', import.meta.url).pathname;
  const args = [process.execPath, script, office4, office6, node, sourcePorts.join()];
  machine = spawn('ip', ['netns', 'exec', namespace, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const port = await new Promise<string>((resolve, reject) => {
    machine?.stdout?.once('data', (chunk: Buffer) => resolve(chunk.toString().trim()));
    machine?.once('exit', () => reject(new TypeError('the machine’s server ended')));
  });
  await inside('nft', 'add', 'table', 'inet', table);
  await inside('nft', `add chain inet ${table} output { type nat hook output priority -105; }`);
  for (const protocol of ['udp', 'tcp']) {
    for (const resolver of [`ip daddr ${office4}`, `ip6 daddr ${office6}`]) {
      const own = `${protocol} sport != { ${sourcePorts.join(', ')} }`;
      await inside('nft', `add rule inet ${table} output ${resolver} ${protocol} dport 53 ${own} redirect to :${port}`);
    }
  }
});

async function down(): Promise<void> {
  machine?.kill('SIGKILL');
  for (const pid of (await run('ip', ['netns', 'pids', namespace]).catch(() => '')).split('\n').filter(Boolean)) {
    await run('kill', ['-9', pid]).catch(() => undefined);
  }
  await run('ip', ['netns', 'delete', namespace]).catch(() => undefined);
  await rm(`/etc/netns/${namespace}`, { recursive: true, force: true });
}
after(down);

const answers: [args: string[], expected: string][] = [
  [['service-a'], '10.96.0.1'],
  [['service-a.tel2-search'], '10.96.0.1'],
  [['service-a.service-a-ns'], '10.96.0.1'],
  [['SERVICE-A.service-a-ns.svc.cluster.local.'], '10.96.0.1'],
  [['+tcp', 'service-a.service-a-ns'], '10.96.0.1'],
  [['+noedns', 'service-a.service-a-ns'], '10.96.0.1'],
  [['+nocookie', '+dnssec', 'service-a.service-a-ns'], '10.96.0.1'],
  [[`@${office6}`, 'service-a.service-a-ns'], '10.96.0.1'],
  [[`@${office6}`, '+tcp', 'service-a.service-a-ns'], '10.96.0.1'],
  [['AAAA', 'both.svc'], 'fd00:96::2'],
  [['SRV', '_http._tcp.service-a.svc'], '0 100 8080 service-a.svc.'],
  [['-x', '10.96.0.1'], 'service-a.service-a-ns.svc.cluster.local.'],
  [['db'], 'both.svc.\n10.96.0.2'],
  [['site'], 'intranet.office.example.\n172.16.0.9'],
  [['intranet.office.example'], '172.16.0.9'],
  [['+tcp', 'intranet.office.example'], '172.16.0.9'],
  [[`@${office6}`, 'intranet.office.example'], '172.16.0.9'],
  [['printer'], '172.16.0.5'],
];
for (const [args, expected] of answers) {
  test(`dig ${args.join(' ')}`, options, async () => assert.equal(await short(...args), expected));
}

const states: [args: string[], status: string][] = [
  [['AAAA', 'service-a.service-a-ns'], 'NOERROR'],
  [['TYPE65', 'service-a.service-a-ns'], 'NOERROR'],
  [['+notcp', 'ANY', 'service-a.service-a-ns'], 'NOERROR'],
  [['TYPE65', 'none.service-a-ns.svc.cluster.local'], 'NXDOMAIN'],
  [['none.service-a-ns.svc.cluster.local'], 'NXDOMAIN'],
  [['+edns=7', '+noednsnegotiation', 'service-a.service-a-ns'], 'BADVERS'],
  // The cluster asks this machine back for each of these: nothing waits for itself.
  [['none.service-a-ns.svc'], 'NXDOMAIN'],
  [['nobody'], 'NXDOMAIN'],
];
for (const [args, status] of states) {
  test(`dig ${args.join(' ')} is ${status}`, options, async () =>
    assert.match(await dig(...args), new RegExp(`status: ${status},`)),
  );
}

test('an answer that is too long for a datagram comes over TCP', options, async () => {
  assert.match(await dig('+ignore', 'many.svc'), /flags: qr tc rd ra;/);
  assert.equal((await short('many.svc')).split('\n').length, 90);
});

test('questions in one connection are answered in one', options, async () => {
  assert.equal(
    await short('+tcp', '+keepopen', 'service-a', 'both.svc', 'printer'),
    '10.96.0.1\n10.96.0.2\n172.16.0.5',
  );
});

test('glibc asks for both families at once and gets what there is', options, async () => {
  const addresses = async (name: string): Promise<string[]> =>
    [...new Set((await inside('getent', 'ahosts', name)).split('\n').map((line) => line.split(' ')[0] ?? ''))].filter(
      Boolean,
    );
  assert.deepEqual(await addresses('service-a'), ['10.96.0.1']);
  assert.deepEqual(await addresses('service-a.service-a-ns.svc.cluster.local'), ['10.96.0.1']);
  assert.deepEqual((await addresses('both.svc')).sort(), ['10.96.0.2', 'fd00:96::2']);
  assert.deepEqual(await addresses('printer'), ['172.16.0.5']);
  await assert.rejects(inside('getent', 'hosts', 'none.service-a-ns'));
});
