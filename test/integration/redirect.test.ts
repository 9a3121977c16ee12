import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { buildRedirect } from '../../src/agent/redirect/build.mjs';
import { repositoryRoot } from '../cluster/paths.ts';
import { run } from '../cluster/shell.ts';

// The program of the init container, in a network namespace as a pod has one, with a caller in another: whom each reaches.
const limit = { timeout: 60_000 };
const [pod, outside] = [`nfpod${process.pid}`, `nfout${process.pid}`];
const addresses = ['10.9.0.2', 'fd00:9::2'] as const;
const agentUid = 1000;
const node = join(repositoryRoot, 'node_modules/node/bin/node');
let folder: string;
let program: string;
let servers: ChildProcess | undefined;

const inside = (namespace: string, ...command: string[]): Promise<string> =>
  run('ip', ['netns', 'exec', namespace, ...command], { timeoutMs: 20_000 });
const redirect = (...args: string[]): Promise<string> => inside(pod, program, String(agentUid), ...args);

/** The application at 8080 and 8081, the agent at 9900 and 9901: each says its number. */
const listeners = `
  for (const port of [8080, 9900]) require('net').createServer((s) => s.end(String(port))).listen(port, '::');
  for (const port of [8081, 9901]) {
    const u = require('dgram').createSocket('udp6');
    u.on('message', (m, r) => u.send(String(port), r.port, r.address)).bind(port, '::');
  }
  setTimeout(() => console.log('ready'), 100);`;

/** Which number answers, and from which. */
const caller = `
  const [address, port, way] = process.argv.slice(1);
  const say = (text) => (console.log(text), process.exit(0));
  if (way === 'udp') {
    const u = require('dgram').createSocket(address.includes(':') ? 'udp6' : 'udp4');
    u.on('message', (m, r) => say(m + ' from ' + r.port)).send('x', Number(port), address);
  } else {
    require('net').connect(Number(port), address).on('data', (d) => say(String(d))).on('error', (e) => say(e.code));
  }
  setTimeout(() => say('silence'), 5000);`;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nearfield-redirect-'));
  await chmod(folder, 0o755);
  program = join(folder, 'redirect');
  await buildRedirect(program);
  for (const namespace of [pod, outside]) {
    await run('ip', ['netns', 'add', namespace]);
  }
  await run('ip', ['link', 'add', 'eth0', 'netns', pod, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', outside]);
  for (const [namespace, number] of [
    [outside, 1],
    [pod, 2],
  ] as const) {
    await run('ip', ['-n', namespace, 'address', 'add', `10.9.0.${number}/24`, 'dev', 'eth0']);
    await run('ip', ['-n', namespace, '-6', 'address', 'add', `fd00:9::${number}/64`, 'dev', 'eth0', 'nodad']);
    await run('ip', ['-n', namespace, 'link', 'set', 'lo', 'up']);
    await run('ip', ['-n', namespace, 'link', 'set', 'eth0', 'up']);
  }
  servers = spawn('ip', ['netns', 'exec', pod, node, '-e', listeners], { stdio: ['ignore', 'pipe', 'inherit'] });
  assert.ok(servers.stdout);
  await once(servers.stdout, 'data');
  const rules = ['take:8080:9900:tcp', 'take:8081:9901:udp', 'pass:9902:8080:tcp'];
  await redirect(...rules);
  // Where a pod's sandbox outlives its containers, it runs once more.
  await redirect(...rules);
}, limit);

after(async () => {
  servers?.kill('SIGKILL');
  for (const namespace of [pod, outside]) {
    await run('ip', ['netns', 'delete', namespace]).catch(() => undefined);
  }
  await rm(folder, { recursive: true, force: true });
}, limit);

type Who = 'outside' | 'agent' | 'another';
const as: Record<Who, readonly string[]> = {
  outside: [outside],
  agent: [pod, 'setpriv', `--reuid=${agentUid}`, '--clear-groups'],
  another: [pod, 'setpriv', '--reuid=1337', '--clear-groups'],
};
const ask = async (who: Who, address: string, port: number, way = 'tcp'): Promise<string> => {
  const [namespace = '', ...prefix] = as[who];
  return (await inside(namespace, ...prefix, node, '-e', caller, address, String(port), way)).trim();
};

for (const address of addresses) {
  test(`callers of ${address} reach the agent, and probes the application`, limit, async () => {
    assert.equal(await ask('outside', address, 8080), '9900');
    assert.equal(await ask('outside', address, 9902), '8080');
    assert.equal(await ask('outside', address, 8081, 'udp'), '9901 from 8081');
  });

  test(
    `inside the pod ${address} leads the agent to the application, and everybody else to the agent`,
    limit,
    async () => {
      assert.equal(await ask('agent', address, 8080), '8080');
      assert.equal(await ask('agent', address, 8081, 'udp'), '8081 from 8081');
      assert.equal(await ask('another', address, 8080), '9900');
      const loopback = address.includes(':') ? '::1' : '127.0.0.1';
      assert.equal(await ask('another', loopback, 8080), '8080');
      assert.equal(await ask('another', loopback, 9902), '8080');
    },
  );
}

test('whatever it cannot do, the pod starts, and the reason is said', limit, async () => {
  const fails = async (...command: string[]): Promise<string> => {
    const text = await inside(pod, 'sh', '-c', '"$@" 2>&1', 'sh', ...command);
    return text.trim();
  };
  const unable = ['setpriv', '--reuid=1337', '--clear-groups', program, String(agentUid), 'take:1:2:tcp'];
  assert.match(await fails(...unable), /kernel refuses to redirect IPv4 ports: Operation not permitted/);
  assert.match(await fails(program, String(agentUid), 'take:0:2:tcp'), /no redirection/);
  assert.match(await fails(program), /called with 0 arguments/);
});
