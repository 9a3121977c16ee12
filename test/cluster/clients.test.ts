import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { build } from 'esbuild';
import { type Headless, installHeadless } from '../support/headless.ts';
import { openWorkstation, type Workstation } from '../support/workstation.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { repositoryRoot } from './paths.ts';
import { ensurePrerequisites } from './prerequisites.ts';
import { run } from './shell.ts';

// Real clients of real servers, through the TUN, by name, against pods.
const limit = { timeout: 300_000 };

let cluster: Cluster;
let workstation: Workstation;
let headless: Headless;
let talk: string;

const here = join(repositoryRoot, 'test/cluster');

async function bundle(name: string, folder: string): Promise<string> {
  const outfile = join(folder, `${name}.cjs`);
  const entryPoints = [join(here, 'probes', `${name}.ts`)];
  // As a module: the probes wait at the top level.
  const format = name === 'talk' ? 'esm' : 'cjs';
  const banner: Record<string, string> =
    format === 'esm'
      ? { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" }
      : {};
  const file = format === 'esm' ? outfile.replace('.cjs', '.mjs') : outfile;
  await build({ entryPoints, outfile: file, bundle: true, platform: 'node', format, banner, logLevel: 'error' });
  return file;
}

before(async () => {
  await ensurePrerequisites([
    ...['/usr/bin/psql', '/usr/lib/postgresql', '/usr/bin/redis-cli', '/usr/bin/redis-server', '/usr/bin/iperf3'],
    ...['/usr/bin/git', '/usr/bin/curl', '/usr/bin/python3', '/usr/bin/openssl'],
  ]);
  cluster = await openCluster();
  const folder = await mkdtemp(join(tmpdir(), 'nearfield-clients-'));
  const server = await bundle('server', folder);
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=web.clients'];
  await run('openssl', [...request, '-keyout', key, '-out', cert]);
  await cluster.kubectl('delete', 'namespace', 'clients', '--ignore-not-found', '--wait=true');
  await cluster.kubectl('create', 'namespace', 'clients');
  const files = [server, key, cert].map((path) => `--from-file=${path}`);
  await cluster.kubectl('-n', 'clients', 'create', 'configmap', 'web', ...files);
  await cluster.kubectl('apply', '-f', join(here, 'manifests/clients.yaml'));
  await cluster.kubectl('-n', 'clients', 'wait', '--for=condition=Ready', 'pod', '--all', '--timeout=120s');
  workstation = await openWorkstation(8);
  headless = await installHeadless(workstation, cluster.kubeconfig);
  talk = await workstation.give(await bundle('talk', folder), 'talk.mjs');
  await rm(folder, { recursive: true, force: true });
  await headless.nearfield('install');
  await headless.connect();
}, limit);

after(async () => {
  await headless?.nearfield('quit').catch(() => undefined);
  await workstation?.down();
  await cluster?.kubectl('delete', 'namespace', 'clients', '--wait=false').catch(() => undefined);
}, limit);

const inside = (command: readonly string[]): Promise<string> => workstation.run(command, { timeoutMs: 60_000 });

test('psql queries a PostgreSQL', limit, async () => {
  const psql = (query: string): Promise<string> =>
    inside(['psql', '-h', 'postgres.clients', '-U', 'postgres', '-At', '-c', query]);
  assert.equal(await psql('select sum(i) from generate_series(1, 100000) i'), '5000050000\n');
  assert.equal((await psql("select repeat('x', 1000) from generate_series(1, 5000)")).length, 5_005_000);
});

test('redis-cli talks to a Redis', limit, async () => {
  const redis = (...words: string[]): Promise<string> => inside(['redis-cli', '-h', 'redis.clients', ...words]);
  assert.equal(await redis('set', 'name', 'nearfield'), 'OK\n');
  assert.equal(await redis('get', 'name'), 'nearfield\n');
  assert.match(await redis('-r', '200', 'incr', 'count'), /\n200\n$/);
});

test('git clones over HTTP', limit, async () => {
  const target = join(workstation.home, 'clone');
  await inside(['git', 'clone', '-q', 'http://git.clients:8000/repository.git', target]);
  assert.equal(await inside(['cat', join(target, 'small')]), 'hello\n');
  assert.match(await inside(['git', '-C', target, 'fsck', '--full']), /^/);
});

test('curl speaks HTTP/2, in clear text and over TLS', limit, async () => {
  const curl = (...words: string[]): Promise<string> =>
    inside(['curl', '-sS', '-m', '10', '-w', ' %{http_version}', ...words]);
  assert.equal(await curl('--http2-prior-knowledge', 'http://web.clients:8002/'), 'two 2');
  assert.equal(await curl('--http2', '-k', 'https://web.clients:8003/'), 'two 2');
});

test('a WebSocket carries five hundred small messages and a large one, in order', limit, async () => {
  const output = await inside([`${workstation.home}/node`, talk, 'ws', 'ws://web.clients:8001']);
  assert.deepEqual(JSON.parse(output), { echoes: 501 });
});

test('a gRPC client calls a server in a pod', limit, async () => {
  const output = await inside([`${workstation.home}/node`, talk, 'grpc', 'http://traffic-manager.ambassador:8081']);
  assert.match(output, /"version":"v?\d/);
});

interface IperfResult {
  readonly error?: string;
  readonly end: {
    readonly sum_received?: { readonly bits_per_second: number };
    readonly sum?: { readonly bits_per_second: number; readonly lost_percent: number; readonly packets: number };
  };
}

/** Thirty-two flows for three seconds. */
async function iperf(...words: readonly string[]): Promise<IperfResult> {
  const output = await inside(['iperf3', '-c', 'iperf.clients', '-P', '32', '-t', '3', '-J', ...words]);
  const result = JSON.parse(output) as IperfResult;
  assert.equal(result.error, undefined);
  return result;
}

for (const [what, words] of [
  ['up', []],
  ['down', ['-R']],
] as const) {
  test(`iperf3 moves bytes ${what} in 32 TCP flows`, limit, async () => {
    const rate = (await iperf(...words)).end.sum_received?.bits_per_second ?? 0;
    console.log(`TCP ${what}, 32 flows: ${(rate / 1e9).toFixed(2)} Gbit/s`);
    assert.ok(rate > 10e6);
  });
}

for (const [what, words] of [
  ['up', ['-b', '500K']],
  ['down', ['-b', '500K', '-R']],
  ['up in fragments', ['-b', '500K', '-l', '8000']],
] as const) {
  test(`iperf3 moves datagrams ${what} in 32 UDP flows`, limit, async () => {
    const { sum } = (await iperf('-u', ...words)).end;
    console.log(`UDP ${what}: ${sum?.packets} datagrams, ${sum?.lost_percent.toFixed(2)} % lost`);
    assert.ok((sum?.packets ?? 0) > 500 && (sum?.lost_percent ?? 100) < 5, JSON.stringify(sum));
  });
}
