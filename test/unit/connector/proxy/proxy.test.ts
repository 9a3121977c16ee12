import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { createLogger, type Logger, type NearfieldError, systemClock } from '../../../../src/base/index.ts';
import type { ProxyRequest } from '../../../../src/connector/index.ts';
import { createCredentials, isAccepted } from '../../../../src/connector/proxy/credentials.ts';
import { proxyEnvironment } from '../../../../src/connector/proxy/environment.ts';
import { parseForward } from '../../../../src/connector/proxy/forward.ts';
import { type LocalProxy, openLocalProxy } from '../../../../src/connector/proxy/proxy.ts';
import { type Answer, type FakeTunnels, openFakeTunnels } from '../../../support/fake-tunnels.ts';
import { clusterNames, ip, network, Program, records } from './bench.ts';

const limit = { timeout: 10_000 };
let tunnels: FakeTunnels | undefined;
let proxy: LocalProxy | undefined;
let lines: string[] = [];
const log: Logger = createLogger({
  wallMs: () => 0,
  level: () => 'trace',
  sink: ({ message, fields }) => void lines.push(`${message} ${JSON.stringify(fields)}`),
});

afterEach(async () => {
  await proxy?.dispose();
  proxy = undefined;
  await tunnels?.close();
});

async function open(request: ProxyRequest, answer: () => Answer = () => ({ kind: 'echo' })): Promise<LocalProxy> {
  lines = [];
  const fake = await openFakeTunnels(answer);
  tunnels = fake;
  const made = await openLocalProxy(
    {
      clock: systemClock,
      log,
      tunnels: fake.deps.tunnels,
      network: () => network,
      lookup: async (name) => ({
        rcode: name in clusterNames ? 0 : 3,
        records: records((clusterNames[name] ?? []).map(ip)),
      }),
      apiServer: { url: 'https://api.example.com:6443', addresses: [ip('203.0.113.7')] },
    },
    request,
  );
  proxy = made;
  return made;
}

const portOf = (address: string | undefined): number => Number(address?.split(':')[1]);

test('everything listens on loopback, each on a port of its own', limit, async () => {
  const { view } = await open({ forwards: ['0:service-a:8080'] });
  const places = [view.socks, view.http, ...view.forwards.map(({ local }) => local)];
  assert.ok(places.every((each) => /^127\.0\.0\.1:\d+$/.test(each)));
  assert.equal(new Set(places).size, 3);
  assert.equal(view.forwards[0]?.target, 'service-a:8080');
});

test('a password is asked for unless it is switched off, and it is in the environment only', limit, async () => {
  const { view, environment } = await open({});
  assert.equal(view.needsPassword, true);
  const password = new URL(environment['HTTP_PROXY'] ?? '').password;
  assert.ok(password.length >= 20);
  const program = new Program(portOf(view.http));
  program.write(
    `CONNECT service-a:80 HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic ${Buffer.from(`nearfield:${password}`).toString('base64')}\r\n\r\n`,
  );
  assert.match(await program.readText(/\r\n\r\n/), / 200 /);
  const wrong = new Program(portOf(view.http));
  wrong.write('CONNECT nobody:80 HTTP/1.1\r\nHost: a\r\n\r\n');
  await wrong.rest();
  assert.ok(!JSON.stringify(view).includes(password));
  assert.ok(!lines.join('\n').includes(password));
  await proxy?.dispose();
  await tunnels?.close();
  const open2 = await open({ withoutPassword: true });
  assert.equal(open2.view.needsPassword, false);
  assert.match(open2.environment['ALL_PROXY'] ?? '', /^socks5h:\/\/127\.0\.0\.1:\d+$/);
});

test('passwords are new each time, and compared whole', () => {
  const [one, two] = [createCredentials(), createCredentials()];
  assert.notEqual(one.password, two.password);
  assert.match(one.password, /^[\w-]{24}$/);
  assert.ok(isAccepted(one, { ...one }));
  assert.ok(!isAccepted(one, two));
  assert.ok(!isAccepted({ user: 'a', password: 'b c' }, { user: 'a b', password: 'c' }));
});

test('the environment names the proxies in both spellings, and leaves the API server alone', () => {
  const environment = proxyEnvironment({
    socksPort: 1,
    httpPort: 2,
    credentials: { user: 'u', password: 'p/w' },
    direct: ['api.example.com', '203.0.113.7', 'localhost'],
  });
  assert.deepEqual(environment, {
    HTTP_PROXY: 'http://u:p%2Fw@127.0.0.1:2',
    HTTPS_PROXY: 'http://u:p%2Fw@127.0.0.1:2',
    ALL_PROXY: 'socks5h://u:p%2Fw@127.0.0.1:1',
    NO_PROXY: 'localhost,127.0.0.1,::1,api.example.com,203.0.113.7',
    http_proxy: 'http://u:p%2Fw@127.0.0.1:2',
    https_proxy: 'http://u:p%2Fw@127.0.0.1:2',
    all_proxy: 'socks5h://u:p%2Fw@127.0.0.1:1',
    no_proxy: 'localhost,127.0.0.1,::1,api.example.com,203.0.113.7',
    NODE_USE_ENV_PROXY: '1',
  });
});

test('a forward leads to its target, half-close included', limit, async () => {
  const { view } = await open({ forwards: ['0:service-a.service-a-ns:8080'] }, () => ({
    kind: 'program',
    onSocket(socket) {
      socket.write('hello ');
      socket.on('data', (chunk) => socket.write(chunk));
      socket.on('end', () => socket.end(' bye'));
    },
  }));
  const program = new Program(portOf(view.forwards[0]?.local));
  program.write('x');
  program.socket.end();
  assert.equal((await program.rest()).toString(), 'hello x bye');
  assert.deepEqual(tunnels?.asked, ['tcp 10.100.0.10:8080']);
});

test('a forward whose target refuses is reset', limit, async () => {
  const { view } = await open({ forwards: ['0:service-a:1'] }, () => ({ kind: 'fail', result: 'refused' }));
  const program = new Program(portOf(view.forwards[0]?.local));
  await program.rest();
  assert.equal(program.error, 'ECONNRESET');
});

test('a port that is taken is an error with a hint, and leaves nothing open', limit, async () => {
  const first = await open({ forwards: ['0:service-a:1'] });
  const taken = portOf(first.view.forwards[0]?.local);
  await assert.rejects(
    openLocalProxy(
      {
        clock: systemClock,
        log,
        tunnels: () => undefined,
        network: () => network,
        lookup: async () => ({ rcode: 3, records: new Uint8Array(0) }),
        apiServer: { url: 'https://k', addresses: [] },
      },
      { forwards: [`${taken}:service-a:1`] },
    ),
    { reason: 'connector.port-taken' },
  );
});

test('disposal hangs up on everybody', limit, async () => {
  const made = await open({ withoutPassword: true });
  const program = new Program(portOf(made.view.socks));
  program.write(5, 1, 0, 5, 1, 0, 3, 9, 'service-a', 0, 80);
  await program.read(12);
  await made.dispose();
  await program.rest();
  const late = new Program(portOf(made.view.socks));
  await late.rest();
  assert.equal(late.error, 'ECONNREFUSED');
});

for (const [text, rule] of [
  ['8081:service-a.service-a-ns:8080', { localPort: 8_081, target: { host: 'service-a.service-a-ns', port: 8_080 } }],
  ['0:[fd00::1]:80', { localPort: 0, target: { host: 'fd00::1', port: 80 } }],
] as const) {
  test(`${text} is a forward`, () => assert.deepEqual(parseForward(text), rule));
}

for (const text of ['', '8081', 'service-a:8080', '8081:8080', '70000:a:80', '80:a:b:80', '-1:a:80', '80:a:0']) {
  test(`${JSON.stringify(text)} is no forward, and the error says how to write one`, () => {
    assert.throws(
      () => parseForward(text),
      (error: NearfieldError) => error.reason === 'connector.bad-forward' && /8081:service-a/.test(error.hint ?? ''),
    );
  });
}
