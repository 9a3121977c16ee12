import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type Headless, installHeadless } from '../support/headless.ts';
import { openWorkstation, type Workstation } from '../support/workstation.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { repositoryRoot } from './paths.ts';
import { waitFor } from './shell.ts';

// Every mode by the command line, as a person has it; matrix.test.ts tries them with every kind of workload.
const limit = { timeout: 180_000 };
const httpPort = 3000;
const udpPort = 5353;

const kinds = { plain: 'deployment/plain' } as const;
type Kind = keyof typeof kinds;
const modes = ['intercept', 'filtered', 'wiretap', 'replace', 'ingest', 'datagrams'] as const;
type Mode = (typeof modes)[number];

let cluster: Cluster;
let workstation: Workstation;
let headless: Headless;

/** The developer's programs: they answer, and write down what they heard. */
const programs = `
const say = (text) => require('fs').appendFileSync(process.argv[1], text + '\\n');
require('http').createServer((q, s) => { say('http ' + q.url); s.end('laptop ' + q.url); }).listen(${httpPort}, '127.0.0.1');
const udp = require('dgram').createSocket('udp4');
udp.on('message', (m, r) => { say('udp ' + m); udp.send('laptop ' + m, r.port, r.address); });
udp.bind(${udpPort}, '127.0.0.1');`;
let heardPath = '';
const heard = (): Promise<string> => readFile(heardPath, 'utf8').catch(() => '');

before(async () => {
  cluster = await openCluster();
  await cluster.kubectl('apply', '-f', join(repositoryRoot, 'test/cluster/manifests/modes.yaml'));
  workstation = await openWorkstation(9);
  headless = await installHeadless(workstation, cluster.kubeconfig);
  heardPath = join(workstation.home, 'heard');
  workstation.start([`${workstation.home}/node`, '-e', programs, heardPath], `${workstation.home}/programs.log`);
  await headless.nearfield('install');
  await headless.nearfield('connect', '--namespace', 'modes', '--no-root');
  for (const kind of Object.keys(kinds) as Kind[]) {
    await answeredBy('pod', kind, 60_000);
  }
}, limit);

after(async () => {
  await headless?.nearfield('quit').catch(() => undefined);
  await workstation?.down();
  await cluster?.kubectl('delete', 'namespace', 'modes', '--wait=false').catch(() => undefined);
}, limit);

const fromPod = (script: string): Promise<string> =>
  cluster.kubectl('-n', 'service-b-ns', 'exec', 'deploy/caller', '--', 'node', '-e', script).catch(String);

const call = (kind: Kind, path = '/x', headers: Record<string, string> = {}): Promise<string> => {
  const options = `{ headers: ${JSON.stringify(headers)}, signal: AbortSignal.timeout(5000) }`;
  return fromPod(
    `fetch('http://${kind}.modes${path}', ${options}).then((r) => r.text()).then((t) => console.log(t.trim()))`,
  );
};

const sendDatagram = (text: string): Promise<string> =>
  fromPod(`const s = require('dgram').createSocket('udp4');
    s.on('message', (m) => { console.log(String(m)); s.close(); });
    s.send(${JSON.stringify(text)}, 8081, 'plain.modes'); setTimeout(() => process.exit(1), 4000).unref();`);

const answeredBy = (who: 'pod' | 'laptop', kind: Kind, limitMs = 40_000, headers = {}): Promise<true> =>
  waitFor(`an answer of the ${who} for ${kind}`, limitMs, async () =>
    (await call(kind, '/x', headers)).startsWith(who) ? true : undefined,
  );

interface Attached {
  readonly name: string;
  readonly mode: string;
}

async function attach(mode: string, kind: Kind, ...flags: string[]): Promise<Attached> {
  const output = await headless.nearfield(mode, kinds[kind], '--json', ...flags);
  return JSON.parse(output) as Attached;
}

const http = ['--port', `${httpPort}:http`];

const attempts: Record<Mode, (kind: Kind) => Promise<string>> = {
  async intercept(kind) {
    const { name } = await attach('intercept', kind, ...http);
    await answeredBy('laptop', kind);
    return name;
  },
  async filtered(kind) {
    const { name } = await attach(
      'intercept',
      kind,
      ...http,
      '--http-header',
      'x-user=ann',
      '--http-path-prefix',
      '/x',
    );
    await answeredBy('laptop', kind, 40_000, { 'x-user': 'ann' });
    assert.match(await call(kind, '/x', { 'x-user': 'bob' }), /^pod/);
    assert.match(await call(kind, '/y', { 'x-user': 'ann' }), /^pod/);
    assert.match(await call(kind, '/x'), /^pod/);
    return name;
  },
  async wiretap(kind) {
    const { name } = await attach('wiretap', kind, ...http);
    await waitFor('a copy of a request', 40_000, async () => {
      assert.match(await call(kind, `/tap-${kind}`), /^pod/);
      return (await heard()).includes(`http /tap-${kind}`) ? true : undefined;
    });
    return name;
  },
  async replace(kind) {
    const { name } = await attach('replace', kind, '--container', 'server', '--port', `${httpPort}:8080`);
    await answeredBy('laptop', kind);
    const names = 'jsonpath={.items[*].spec.containers[*].name}';
    // Whoever was told to end may take the time that it has.
    await waitFor('the end of the container', 40_000, async () => {
      const found = await cluster.kubectl('-n', 'modes', 'get', 'pods', '-l', `app=${kind}`, '-o', names);
      return /\bserver\b/.test(found) ? undefined : true;
    });
    return name;
  },
  async ingest(kind) {
    const { name } = await attach(
      'ingest',
      kind,
      '--container',
      'server',
      '--env-json',
      `${workstation.home}/environment`,
    );
    const environment = JSON.parse(await workstation.run(['cat', `${workstation.home}/environment`])) as object;
    assert.equal((environment as { GREETING?: string }).GREETING, 'hello from the cluster');
    assert.match(await call(kind), /^pod/);
    return name;
  },
  async datagrams(kind) {
    const { name } = await attach('intercept', kind, '--port', `${udpPort}:echo/UDP`);
    await waitFor('a datagram on this machine', 40_000, async () =>
      (await sendDatagram('hello')).startsWith('laptop hello') ? true : undefined,
    );
    return name;
  },
};

for (const mode of modes) {
  const kind = 'plain';
  test(`${mode}: ${kinds[kind]}`, limit, async () => {
    const name = await attempts[mode](kind);
    const list = await headless.nearfield('list', '--json');
    assert.match(list, new RegExp(`"name": "${name}"`));
    await headless.nearfield('leave', name);
    await answeredBy('pod', kind, 60_000);
    assert.doesNotMatch(await headless.nearfield('status', '--json'), new RegExp(`"name": "${name}",\\s+"mode"`));
  });
}

test('what is refused leaves the application answering, and nothing behind', limit, async () => {
  await assert.rejects(attach('intercept', 'plain', '--port', `${httpPort}:nowhere`), /no service port nowhere/);
  assert.match(await headless.nearfield('status', '--json'), /"attachments": \[\]/);
  assert.match(await call('plain'), /^pod/);
});

test(
  'the environment is written where it is asked for, by nobody else readable, and not said otherwise',
  limit,
  async () => {
    // The short form: Node reads a long --env-file itself, wherever it stands.
    const path = `${workstation.home}/app.env`;
    const output = await headless.nearfield('ingest', kinds.plain, '--container', 'server', '-e', path);
    assert.doesNotMatch(output, /hello from the cluster/);
    assert.match(await workstation.run(['cat', path]), /^GREETING='hello from the cluster'$/m);
    assert.match(await workstation.run(['stat', '-c', '%a', path]), /^600/);
    await headless.nearfield('leave', 'plain');
  },
);

test('a port of this machine leads to the pod', limit, async () => {
  const { name } = await attach('ingest', 'plain', '--container', 'server', '--to-pod', '8080');
  assert.match(await workstation.run(['curl', '-sS', '-m', '10', 'http://127.0.0.1:8080/pod']), /^pod plain-/);
  await headless.nearfield('leave', name);
  await assert.rejects(workstation.run(['curl', '-sS', '-m', '5', 'http://127.0.0.1:8080/pod']));
});
