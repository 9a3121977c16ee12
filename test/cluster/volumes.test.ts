import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type Headless, installHeadless } from '../support/headless.ts';
import { openWorkstation, type Workstation } from '../support/workstation.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { repositoryRoot } from './paths.ts';
import { waitFor } from './shell.ts';

// The volumes of a pod as files of the developer's machine.
const limit = { timeout: 360_000 };

let cluster: Cluster;
let workstation: Workstation;
let headless: Headless;

before(async () => {
  cluster = await openCluster();
  await cluster.kubectl('apply', '-f', join(repositoryRoot, 'test/cluster/manifests/volumes.yaml'));
  workstation = await openWorkstation(12);
  headless = await installHeadless(workstation, cluster.kubeconfig);
  await headless.nearfield('install');
  await headless.nearfield('connect', '--namespace', 'volumes', '--no-root');
  for (const [namespace, name] of [
    ['volumes', 'files'],
    ['volumes-restricted', 'locked'],
  ] as const) {
    await cluster.kubectl('-n', namespace, 'rollout', 'status', `deploy/${name}`, '--timeout=90s');
  }
}, limit);

after(async () => {
  await headless?.nearfield('quit').catch(() => undefined);
  await workstation?.down();
  for (const name of ['volumes', 'volumes-restricted']) {
    await cluster?.kubectl('delete', 'namespace', name, '--wait=false').catch(() => undefined);
  }
}, limit);

interface Attached {
  readonly name: string;
  readonly files?: {
    readonly root: string;
    readonly volumes: readonly {
      readonly path: string;
      readonly kind: string;
      readonly leftOut: readonly { readonly path: string; readonly reason: string }[];
    }[];
  };
}

async function attach(...args: string[]): Promise<Attached & { readonly root: string }> {
  const made = JSON.parse(await headless.nearfield(...args, '--json')) as Attached;
  return { ...made, root: made.files?.root ?? '' };
}

/** As the user. */
const laptop = async (...command: string[]): Promise<string> => (await workstation.run(command).catch(String)).trim();
const read = (path: string): Promise<string> => laptop('cat', path);
const inPod = (container: string, ...command: string[]): Promise<string> =>
  cluster.kubectl('-n', 'volumes', 'exec', 'deploy/files', '-c', container, '--', ...command);
const account = '/var/run/secrets/kubernetes.io/serviceaccount';

test(
  'every kind of volume is here as it is in the pod, what is ignored is not, and an update arrives',
  limit,
  async () => {
    const { name, root, files } = await attach('ingest', 'deployment/files');
    assert.equal(await read(`${root}/etc/app/app.conf`), 'one');
    assert.equal(await read(`${root}/etc/app/extra.conf`), 'more');
    assert.equal(await read(`${root}/etc/keys/token`), 's3cret');
    assert.equal(await read(`${root}/etc/both/nested/app.conf`), 'one');
    assert.equal(await read(`${root}/etc/both/token`), 's3cret');
    assert.match(await read(`${root}/etc/both/labels`), /app="files"/);
    assert.equal(await read(`${root}/etc/single.conf`), 'more');
    assert.equal((await read(`${root}${account}/token`)).split('.').length, 3);
    assert.equal(await laptop('ls', `${root}/cache`), '');
    assert.match(await laptop('ls', `${root}/hidden`), /No such file/);
    assert.equal(await laptop('stat', '-c', '%a %U', `${root}/etc/keys/token`), '400 nearfield');
    assert.equal(await laptop('stat', '-c', '%a', root), '700');
    assert.deepEqual(
      files?.volumes.filter(({ leftOut }) => leftOut.length > 0),
      [],
    );
    await cluster.kubectl(
      '-n',
      'volumes',
      'patch',
      'configmap',
      'settings',
      '--type=merge',
      '-p',
      '{"data":{"app.conf":"two"}}',
    );
    // The kubelet looks once a minute, or when an annotation of the pod changes.
    await cluster.kubectl('-n', 'volumes', 'annotate', 'pod', '--all', 'test/touched=now');
    await waitFor('the new value', 150_000, async () =>
      (await read(`${root}/etc/app/app.conf`)) === 'two' ? true : undefined,
    );
    await headless.nearfield('leave', name);
    assert.match(await laptop('ls', root), /No such file/);
  },
);

test('files of the pod come, change and go, and the environment says where they are', limit, async () => {
  const { name, root } = await attach('ingest', 'deployment/files', '-j', `${workstation.home}/environment.json`);
  const environment = JSON.parse(await read(`${workstation.home}/environment.json`)) as Record<string, string>;
  assert.equal(environment['TELEPRESENCE_ROOT'], root);
  assert.equal(environment['TELEPRESENCE_CONTAINER'], 'server');
  assert.ok(environment['TELEPRESENCE_MOUNTS']?.split(':').includes('/etc/app'));
  assert.equal(environment['TELEPRESENCE_LOCAL_MOUNTS'], '/cache');
  await inPod('server', 'node', '-e', 'require("fs").writeFileSync("/work/part/new", "from the pod")');
  for (const path of ['work/part/new', 'part/new']) {
    await waitFor(path, 30_000, async () => ((await read(`${root}/${path}`)) === 'from the pod' ? true : undefined));
  }
  assert.match(await laptop('sh', '-c', `echo x > ${root}/work/part/new`), /Permission denied/);
  await inPod('server', 'node', '-e', 'require("fs").rmSync("/work/part/new")');
  await waitFor('the end of the file', 30_000, async () =>
    /No such file/.test(await read(`${root}/work/part/new`)) ? true : undefined,
  );
  await cluster.kubectl('-n', 'volumes', 'delete', 'pod', '--all', '--wait=false');
  await waitFor('the files of the next pod', 120_000, async () => {
    await inPod('server', 'node', '-e', 'require("fs").writeFileSync("/work/next", "of the next pod")').catch(() => '');
    return (await read(`${root}/work/next`)) === 'of the next pod' ? true : undefined;
  });
  await headless.nearfield('leave', name);
});

test('the agent writes what its policy allows, and to nobody it does not know', limit, async () => {
  const { name } = await attach('ingest', 'deployment/files');
  const ports = await inPod('traffic-agent', '/usr/local/bin/node', '-e', listening);
  const [, port = ''] = /sftp (\d+)/.exec(ports) ?? [];
  const write = (path: string): Promise<string> =>
    inPod('traffic-agent', '/usr/local/bin/node', '-e', openForWriting, port, `/tel_app_exports/server${path}`);
  assert.equal((await write('/work/by-sftp')).trim(), 'handle');
  assert.equal((await inPod('server', 'node', '-p', 'require("fs").existsSync("/work/by-sftp")')).trim(), 'true');
  for (const path of ['/etc/app/x', '/part/x', '/x', '/etc/keys/token']) {
    assert.equal((await write(path)).trim(), 'status 3', path);
  }
  const podIp = (await inPod('traffic-agent', '/usr/local/bin/node', '-p', 'process.env._TEL_AGENT_POD_IP')).trim();
  const stranger = await cluster.kubectl(
    '-n',
    'service-b-ns',
    'exec',
    'deploy/caller',
    '--',
    'node',
    '-e',
    knock,
    podIp,
    port,
  );
  assert.equal(stranger.trim(), 'nothing');
  await headless.nearfield('leave', name);
});

test('what the agent may not read is said, in a namespace that is restricted', limit, async () => {
  const { name, files } = await attach('ingest', 'deployment/locked', '--namespace', 'volumes-restricted');
  const locked = files?.volumes.find(({ path }) => path === '/etc/locked');
  assert.deepEqual(locked?.leftOut, [{ path: 'key.pem', reason: 'unreadable' }]);
  assert.match(
    await headless.nearfield('status'),
    /\/etc\/locked: copy, without key\.pem \(the traffic-agent may not read it\)/,
  );
  await headless.nearfield('leave', name);
});

test('nothing stays of a connector that was killed, in a folder of the person’s own choice either', limit, async () => {
  const wish = `${workstation.home}/mine`;
  const { root } = await attach('intercept', 'deployment/files', '--port', '3000:http', '--mount', wish);
  assert.equal(root, wish);
  assert.equal(await read(`${wish}/etc/keys/token`), 's3cret');
  await workstation.run(['kill', '-9', String(await headless.pidOf('connector'))], { asRoot: true });
  assert.equal(await read(`${wish}/etc/keys/token`), 's3cret');
  await headless.nearfield('connect', '--namespace', 'volumes', '--no-root');
  assert.match(await laptop('ls', wish), /No such file/);
  assert.equal(await laptop('find', `${workstation.home}/nearfield/volumes`, '-name', 'token'), '');
});

/** Which port the agent has that answers as SFTP does: of those that listen, one after the other. */
const listening = `
const net = require('net'), fs = require('fs');
const rows = fs.readFileSync('/proc/net/tcp', 'utf8').split('\\n').slice(1).map((l) => l.trim().split(/\\s+/)).filter((r) => r[3] === '0A');
const ip = process.env._TEL_AGENT_POD_IP;
for (const row of rows) {
  const port = parseInt(row[1].split(':')[1], 16);
  const s = net.connect(port, ip, () => s.write(Buffer.from([0, 0, 0, 5, 1, 0, 0, 0, 3])));
  s.on('error', () => {});
  s.on('data', (d) => { if (d[4] === 2) { console.log('sftp ' + port); process.exit(0); } s.destroy(); });
}
setTimeout(() => process.exit(0), 5000);`;

const openForWriting = `
const [port, path] = process.argv.slice(1);
const text = Buffer.from(path), n = (x) => { const b = Buffer.alloc(4); b.writeUInt32BE(x); return b; };
const body = Buffer.concat([Buffer.from([3]), n(1), n(text.length), text, n(2 | 8), n(0)]);
const s = require('net').connect(Number(port), process.env._TEL_AGENT_POD_IP, () => s.write(Buffer.concat([Buffer.from([0, 0, 0, 5, 1, 0, 0, 0, 3]), n(body.length), body])));
let all = Buffer.alloc(0);
s.on('data', (d) => {
  all = Buffer.concat([all, d]);
  const first = 4 + all.readUInt32BE(0);
  if (all.length < first + 13) return;
  console.log(all[first + 4] === 102 ? 'handle' : 'status ' + all.readUInt32BE(first + 9));
  process.exit(0);
});`;

const knock = `
const [ip, port] = process.argv.slice(1);
const s = require('net').connect(Number(port), ip, () => s.write(Buffer.from([0, 0, 0, 5, 1, 0, 0, 0, 3])));
s.on('data', () => { console.log('an answer'); process.exit(0); });
s.on('error', () => {});
s.on('close', () => { console.log('nothing'); process.exit(0); });`;
