import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openWorkstation, type Workstation } from '../support/workstation.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { repositoryRoot } from './paths.ts';

// An ordinary user without sudo: proxies and forwards into the real cluster, with programs that know nothing of us.
const limit = { timeout: 120_000 };
const bytes = 32 * 1024 * 1024;

let cluster: Cluster;
let workstation: Workstation;
let environment: Readonly<Record<string, string>>;
let forward: string;
let stateBefore: string;

before(async () => {
  cluster = await openCluster();
  workstation = await openWorkstation(9);
  await workstation.give(cluster.kubeconfig, 'kubeconfig');
  await workstation.give(join(repositoryRoot, 'dist/nearfield.cjs'), 'nearfield.cjs');
  await workstation.give(join(repositoryRoot, 'node_modules/node/bin/node'), 'node');
  await nearfield('install');
  stateBefore = await network();
  const rules = ['0:service-a.service-a-ns:8080', '0:service-a.service-a-ns:9'];
  await nearfield(
    'connect',
    '--no-root',
    '--namespace',
    'service-a-ns',
    ...rules.flatMap((rule) => ['--forward', rule]),
  );
  environment = JSON.parse(await nearfield('proxy-env', '--json')) as Record<string, string>;
  const status = JSON.parse(await nearfield('status', '--json')) as {
    proxy: { forwards: { local: string; target: string }[] };
  };
  forward = status.proxy.forwards[0]?.local ?? '';
}, limit);

after(async () => {
  await nearfield('quit').catch(() => undefined);
  await workstation?.down();
}, limit);

const nearfield = (...args: readonly string[]): Promise<string> =>
  workstation.run([`${workstation.home}/node`, `${workstation.home}/nearfield.cjs`, ...args], { timeoutMs: 90_000 });
const network = async (): Promise<string> => (await workstation.state()).split('\n--\n').slice(0, 4).join('\n--\n');
const value = (name: string): string => environment[name] ?? '';
const curl = (...args: readonly string[]): Promise<string> =>
  workstation.run(['curl', '-sS', '-m', '20', ...args]).catch(String);
/** A program whose environment was set by `eval "$(nearfield proxy-env)"`. */
const withEnvironment = (...command: readonly string[]): Promise<string> =>
  workstation
    .run(['env', ...Object.entries(environment).map(([name, text]) => `${name}=${text}`), ...command])
    .catch(String);

test('nothing of the machine was changed, and the status says what is lacking', limit, async () => {
  assert.equal(await network(), stateBefore);
  const status = await nearfield('status');
  assert.match(status, /Daemon +: none/);
  assert.match(status, /Without root +: Other programs do not resolve/);
  assert.ok(!status.includes(new URL(value('HTTP_PROXY')).password));
});

test('without the proxies the cluster’s names mean nothing here', limit, async () => {
  assert.match(await curl('http://service-a.service-a-ns:8080/'), /Could not resolve host/);
});

for (const url of [
  'http://service-a:8080/x',
  'http://service-a.service-a-ns:8080/x',
  'http://service-a.service-a-ns.svc.cluster.local:8080/x',
]) {
  test(`${url} answers through SOCKS, through the HTTP proxy and through its tunnel`, limit, async () => {
    assert.match(await curl('--proxy', value('ALL_PROXY'), url), /^pod .* \/x/);
    assert.match(await curl('--proxy', value('HTTP_PROXY'), url), /^pod .* \/x/);
    assert.match(await curl('--proxytunnel', '--proxy', value('HTTP_PROXY'), url), /^pod .* \/x/);
  });
}

test('an address of the cluster answers too', limit, async () => {
  const ip = await cluster.kubectl('-n', 'service-b-ns', 'get', 'svc', 'service-b', '-o', 'jsonpath={.spec.clusterIP}');
  assert.match(await curl('--proxy', value('ALL_PROXY'), `http://${ip}:8080/`), /^pod /);
});

test('programs that read the environment need nothing else', limit, async () => {
  assert.match(await withEnvironment('curl', '-sS', '-m', '20', 'http://service-a:8080/'), /^pod /);
  const script = `fetch('http://service-b.service-b-ns:8080/y').then((r) => r.text()).then((t) => console.log(t))`;
  assert.match(await withEnvironment(`${workstation.home}/node`, '-e', script), /^pod .* \/y/);
});

test('the rest of the world is reached from this machine', limit, async () => {
  const server = `require('http').createServer((q, s) => s.end('office ' + q.headers.via)).listen(8000, '127.0.0.2')`;
  workstation.start([`${workstation.home}/node`, '-e', server], `${workstation.home}/office.log`);
  const answer = await curl(
    '--retry',
    '5',
    '--retry-all-errors',
    '--proxy',
    value('HTTP_PROXY'),
    'http://127.0.0.2:8000/',
  );
  assert.match(answer, /office 1\.1 nearfield/);
});

test('large bodies arrive whole, both ways', limit, async () => {
  const home = workstation.home;
  await workstation.run(['dd', 'if=/dev/urandom', `of=${home}/body`, 'bs=1M', `count=${bytes / 1024 / 1024}`]);
  const digest = (await workstation.run(['sha256sum', `${home}/body`])).split(' ')[0];
  for (const proxy of [value('ALL_PROXY'), value('HTTP_PROXY')]) {
    const args = ['--proxy', proxy, '--data-binary', `@${home}/body`, 'http://service-a:8080/digest'];
    assert.equal(await curl(...args), digest);
  }
  const counted = await curl(
    '--proxy',
    value('ALL_PROXY'),
    '-o',
    '/dev/null',
    '-w',
    '%{size_download}',
    `http://service-a:8080/bytes/${bytes / 65_536}`,
  );
  assert.equal(Number(counted), bytes);
});

test('a refusal, an unknown name and a wrong password are what they are', limit, async () => {
  assert.match(await curl('--proxy', value('ALL_PROXY'), 'http://service-b.service-b-ns:8080/'), /^pod /);
  const podIp = await cluster.kubectl(
    '-n',
    'service-b-ns',
    'get',
    'pod',
    '-l',
    'app=service-b',
    '-o',
    'jsonpath={.items[0].status.podIP}',
  );
  assert.match(await curl('--proxy', value('ALL_PROXY'), `http://${podIp}:9/`), /\(5\)|refused/i);
  assert.match(await curl('--proxy', value('HTTP_PROXY'), `http://${podIp}:9/`), /refused the connection/);
  assert.match(
    await curl('--proxy', value('HTTP_PROXY'), 'http://nobody.service-a-ns:80/'),
    /Neither the cluster nor this machine/,
  );
  const wrong = value('HTTP_PROXY').replace(/:[^:@]+@/, ':wrong@');
  assert.equal(await curl('-o', '/dev/null', '-w', '%{http_code}', '--proxy', wrong, 'http://service-a:8080/'), '407');
});

test('a forward answers on its port', limit, async () => {
  assert.match(await curl(`http://${forward}/z`), /^pod .* \/z/);
});

test('UDP passes through SOCKS', limit, async () => {
  // A SOCKS client in the small: sign in, associate, one datagram there and back.
  const script = `
    const proxy = new URL(process.env.ALL_PROXY.replace('socks5h', 'http'));
    const socket = require('net').connect(proxy.port, proxy.hostname);
    const udp = require('dgram').createSocket('udp4');
    const steps = [Buffer.concat([Buffer.of(1, proxy.username.length), Buffer.from(proxy.username), Buffer.of(proxy.password.length), Buffer.from(proxy.password)]), Buffer.of(5, 3, 0, 1, 0, 0, 0, 0, 0, 0)];
    socket.write(Buffer.of(5, 1, 2));
    socket.on('data', (data) => {
      const next = steps.shift();
      if (next) return socket.write(next);
      const host = 'echo.service-a-ns';
      udp.send(Buffer.concat([Buffer.of(0, 0, 0, 3, host.length), Buffer.from(host), Buffer.of(8081 >> 8, 8081 & 255), Buffer.from('ping')]), data.readUInt16BE(8), '127.0.0.1');
    });
    udp.on('message', (data) => { console.log(data.subarray(10).toString()); process.exit(); });`;
  assert.match(await withEnvironment('timeout', '20', `${workstation.home}/node`, '-e', script), /^ping/);
});

test('after quit nothing listens any more', limit, async () => {
  await nearfield('quit');
  assert.match(await curl('--proxy', value('HTTP_PROXY'), 'http://service-a:8080/'), /Failed to connect|refused/);
  assert.equal(await network(), stateBefore);
});
