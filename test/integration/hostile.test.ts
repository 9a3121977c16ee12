import assert from 'node:assert/strict';
import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Machine, openMachine, startConnector, startDaemon } from '../support/machine.ts';
import { stateOf } from '../support/machine-state.ts';

const owner = 1_234;
const stranger = 4_321;

/** Says bytes to a socket as a user; prints what came back, or the error. A process of its own, in the machine. */
const talk = `
const { connect } = require('node:net');
const [path, encoded, waitMs] = process.argv.slice(1);
let said = '';
const socket = connect(path, () => socket.write(Buffer.from(encoded, 'base64')));
const end = (why) => { console.log(why + ' ' + said.replaceAll(/\\s+/g, ' ').slice(0, 600)); process.exit(0); };
socket.on('data', (chunk) => { said += chunk.toString('latin1'); });
socket.on('error', (error) => end(error.code));
socket.on('close', () => end('closed'));
setTimeout(() => end('open'), Number(waitMs)).unref();
setTimeout(() => {}, Number(waitMs) + 100);
`;

const asUser = (uid: number, ...command: string[]): string[] => [
  ...['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', ...command],
];

const say = (machine: Machine, uid: number, path: string, bytes: Uint8Array, waitMs = 1_500): Promise<string> =>
  machine.run(asUser(uid, process.execPath, '-e', talk, path, Buffer.from(bytes).toString('base64'), String(waitMs)));

const message = (method: string, params: unknown, id = 1): Buffer => {
  const body = JSON.stringify({ jsonrpc: '2.0', id, method, params });
  return Buffer.from(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
};
const raw = (text: string): Buffer => Buffer.from(text, 'latin1');
const attach = message('attach', { name: 'hostile', pid: 1 });

const dns = {
  clusterDomain: 'cluster.local',
  namespace: 'default',
  routedDomains: ['svc'],
  includeSuffixes: [],
  excludeSuffixes: [],
  excludes: [],
  mappings: [],
  timeoutMs: 4_000,
};
const network = {
  cluster: 'fake',
  subnets: ['10.99.0.0/16'],
  neverProxy: [],
  allowConflicting: [],
  virtualSubnets: [],
  dns,
};
const apply = (changes: object): Buffer =>
  Buffer.concat([attach, message('apply', { network: { ...network, ...changes } }, 2)]);

/** What a process of the same user tries, and the refusal it gets. */
const tries: readonly (readonly [what: string, bytes: Buffer, refusal: RegExp])[] = [
  ['the default route', apply({ subnets: ['0.0.0.0/0'] }), /too wide/],
  ['half of the internet', apply({ subnets: ['0.0.0.0/1', '128.0.0.0/1'] }), /too wide/],
  ['loopback', apply({ subnets: ['127.0.0.0/8'] }), /loopback/],
  ['link-local', apply({ subnets: ['169.254.169.254/32'] }), /link-local/],
  ['multicast', apply({ subnets: ['224.0.0.0/8'] }), /multicast/],
  ['the resolver in use', apply({ subnets: ['10.0.0.0/24'] }), /resolver/],
  ['a subnet that is a program', apply({ subnets: ['$(reboot)/8'] }), /subnet/],
  ['an option instead of a subnet', apply({ subnets: ['-batch /etc/passwd'] }), /subnet/],
  ['a domain with a line break', apply({ dns: { ...dns, routedDomains: ['a\nnameserver 6.6.6.6'] } }), /domain/],
  ['a domain that is a path', apply({ dns: { ...dns, clusterDomain: '../../etc/passwd' } }), /domain/],
  ['ten thousand subnets', apply({ subnets: Array.from({ length: 10_000 }, () => '10.1.0.0/16') }), /length|closed/i],
  ['a field that nobody knows', apply({ shell: '/bin/sh' }), /shell|unknown|never/i],
  [
    'a prototype',
    raw(message('apply', {}).toString().replace('{}', '{"__proto__":{"network":{}}}')),
    /closed|Invalid|open/,
  ],
  ['apply without attach', message('apply', { network }), /attach first/],
  ['listen without attach', message('listen', { port4: 22 }), /attach first/],
  ['a port beyond all', Buffer.concat([attach, message('listen', { port4: 70_000 }, 2)]), /Invalid value/],
  ['a method that is none', message('exec', { file: '/bin/sh' }), /-32601/],
  ['a length of a hundred gigabytes', raw('Content-Length: 99999999999\r\n\r\n{}'), /^(open|closed)/],
  ['a negative length', raw('Content-Length: -1\r\n\r\n{}'), /^(open|closed)/],
  ['a header that never ends', raw(`X: ${'x'.repeat(2 * 1024 * 1024)}`), /^(closed|EPIPE|ECONNRESET)/],
  [
    'a message of two megabytes',
    message('attach', { name: 'x'.repeat(2 * 1024 * 1024), pid: 1 }),
    /^(closed|EPIPE|ECONNRESET)/,
  ],
  ['a thousand brackets', raw(`Content-Length: 2000\r\n\r\n${'['.repeat(2_000)}`), /^(open|closed)/],
  [
    'noise',
    Buffer.from(Array.from({ length: 4_096 }, (_, index) => (index * 197) & 0xff)),
    /^(open|closed|EPIPE|ECONNRESET)/,
  ],
  [
    'a thousand requests at once',
    Buffer.concat(Array.from({ length: 1_000 }, (_, id) => message('status', {}, id))),
    /^(closed|EPIPE|ECONNRESET)/,
  ],
];

/** The same at the dial channel: it wants the token that only an attached connector was told. */
const dialTries: readonly (readonly [what: string, bytes: Buffer])[] = [
  ['a wrong token', Buffer.concat([Buffer.of(0, 0, 0, 0, 64), raw('0'.repeat(64))])],
  ['an answer without hello', Buffer.of(2, 0, 0, 0, 5, 0, 0, 0, 1, 0)],
  ['a frame of four gigabytes', Buffer.of(3, 255, 255, 255, 255)],
  ['noise', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
];

test('another user, and hostile requests of the same user, are refused and change nothing', async (t) => {
  const machine = await openMachine();
  t.after(() => machine.close());
  // The machine's folder is the runtime folder: everybody may enter it, as /run.
  await chmod(machine.folder, 0o755);
  for (const command of [
    ['ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1'],
    ['ip', 'link', 'set', 'eth0', 'addrgenmode', 'none'],
    ['ip', 'link', 'set', 'eth1', 'addrgenmode', 'none'],
    ['ip', 'link', 'set', 'eth1', 'up'],
    ['ip', 'address', 'add', '10.0.0.2/24', 'dev', 'eth0'],
    ['ip', 'link', 'set', 'eth0', 'up'],
    ['sh', '-c', 'echo nameserver 10.0.0.53 > /run/resolv.conf && mount --bind /run/resolv.conf /etc/resolv.conf'],
  ]) {
    await machine.run(command);
  }
  await startDaemon(machine, owner);
  await startConnector(machine, { uid: owner, network: { subnets: ['10.201.0.0/16'] } });
  const control = join(machine.folder, String(owner), 'daemon.sock');
  const dial = join(machine.folder, String(owner), 'dial.sock');
  const before = await stateOf(machine, machine.folder);

  await t.test('another user cannot even see the sockets', async () => {
    for (const path of [control, dial]) {
      assert.match(await say(machine, stranger, path, attach), /^EACCES/);
    }
    await assert.rejects(machine.run(asUser(stranger, 'ls', join(machine.folder, String(owner)))));
  });
  await t.test('another user who finds a way past the directory is not served', async () => {
    await machine.run(['chmod', '-R', '0777', join(machine.folder, String(owner))]);
    for (const path of [control, dial]) {
      assert.match(await say(machine, stranger, path, attach), /^(closed|ECONNRESET|EPIPE)\s*$/);
    }
    await machine.run(['chmod', '0600', control, dial]);
    await machine.run(['chmod', '0700', join(machine.folder, String(owner))]);
  });
  for (const [what, bytes, refusal] of tries) {
    await t.test(`the same user tries ${what}`, async () => {
      // Beyond what an argument may carry, the process makes it itself.
      const answer =
        bytes.length > 90_000 ? await sayLong(machine, control, bytes) : await say(machine, owner, control, bytes);
      assert.match(answer, refusal);
    });
  }
  for (const [what, bytes] of dialTries) {
    await t.test(`the same user tries ${what} at the dial channel`, async () => {
      assert.match(await say(machine, owner, dial, bytes), /^(closed|ECONNRESET|EPIPE)/);
    });
  }
  await t.test('nothing has changed, and the connector is still served', async () => {
    assert.equal(await stateOf(machine, machine.folder), before);
    const echoed = await machine.run([
      ...['timeout', '3', 'bash', '-c', 'exec 3<>/dev/tcp/10.201.0.7/80 && echo hello >&3 && head -n 1 <&3'],
    ]);
    assert.equal(echoed, 'hello\n');
  });
});

/** The same from a file: arguments have a limit. */
async function sayLong(machine: Machine, path: string, bytes: Buffer): Promise<string> {
  const { writeFile } = await import('node:fs/promises');
  const file = join(machine.folder, 'long');
  await writeFile(file, bytes, { mode: 0o644 });
  const program = talk.replace("Buffer.from(encoded, 'base64')", "require('node:fs').readFileSync(encoded)");
  const answer = await machine.run(asUser(owner, process.execPath, '-e', program, path, file, '2500'));
  await machine.run(['rm', file]);
  return answer;
}
