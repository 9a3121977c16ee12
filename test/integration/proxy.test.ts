import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { parseIp, silentLogger, systemClock } from '../../src/base/index.ts';
import { type LocalProxy, openLocalProxy } from '../../src/connector/proxy/proxy.ts';
import { type Answer, type FakeTunnels, openFakeTunnels } from '../support/fake-tunnels.ts';
import { network, records } from '../unit/connector/proxy/bench.ts';

// Real curl through the real proxies; only the cluster is pretended, in this process.
const limit = { timeout: 30_000 };
const body = randomBytes(5_000_001);
const address = parseIp('10.100.0.10') ?? new Uint8Array(4);

let tunnels: FakeTunnels;
let proxy: LocalProxy;
const web = createServer((request, response) => {
  if (request.url === '/large') {
    response.end(body);
  } else if (request.method === 'POST') {
    request.pipe(response);
  } else {
    response.end(`${request.headers.host} ${request.url}`);
  }
});

before(async () => {
  const answer = (port: number): Answer =>
    port === 9
      ? { kind: 'fail', result: 'refused' }
      : { kind: 'program', onSocket: (socket) => void web.emit('connection', socket) };
  tunnels = await openFakeTunnels(({ id }) => answer(id.destinationPort));
  proxy = await openLocalProxy(
    {
      clock: systemClock,
      log: silentLogger,
      tunnels: tunnels.deps.tunnels,
      network: () => network,
      lookup: async (name, type) =>
        name === 'service-a.' && type === 1
          ? { rcode: 0, records: records([address]) }
          : { rcode: 3, records: new Uint8Array(0) },
      apiServer: { url: 'https://127.0.0.1:6443', addresses: [] },
    },
    { forwards: ['0:service-a:8080'] },
  );
});

after(async () => {
  await proxy.dispose();
  await tunnels.close();
});

interface Outcome {
  /** curl's exit code. */
  readonly code: number;
  readonly output: Buffer;
}

function curl(...args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const options = { encoding: 'buffer', maxBuffer: 64 * 1024 * 1024, env: { PATH: '/usr/bin:/bin' } } as const;
    execFile('curl', ['-sS', '-m', '20', ...args], options, (error, stdout) =>
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, output: stdout }),
    );
  });
}

const value = (name: string): string => proxy.environment[name] ?? '';
const ways = (): readonly (readonly [string, readonly string[]])[] => [
  ['SOCKS', ['--proxy', value('ALL_PROXY')]],
  ['the HTTP proxy', ['--proxy', value('HTTP_PROXY')]],
  ['CONNECT', ['--proxytunnel', '--proxy', value('HTTP_PROXY')]],
];

for (const index of [0, 1, 2]) {
  const way = (): readonly string[] => ways()[index]?.[1] ?? [];
  const name = ['SOCKS', 'the HTTP proxy', 'CONNECT'][index];

  test(`${name}: a service answers by its name`, limit, async () => {
    const { code, output } = await curl(...way(), 'http://service-a:8080/a?b');
    assert.equal(`${code} ${output}`, '0 service-a:8080 /a?b');
  });

  test(`${name}: a large body arrives whole, and one goes out whole`, limit, async () => {
    assert.ok((await curl(...way(), 'http://service-a/large')).output.equals(body));
    const sent = await curl(...way(), '--data-binary', 'x'.repeat(100_000), 'http://service-a/');
    assert.equal(sent.output.toString(), 'x'.repeat(100_000));
  });
}

test('curl understands a refusal: by its code from SOCKS, by a sentence from HTTP', limit, async () => {
  // CURLE_PROXY, of which SOCKS reply 5 is one.
  assert.equal((await curl('--proxy', value('ALL_PROXY'), 'http://service-a:9/')).code, 97);
  assert.match((await curl('--proxy', value('HTTP_PROXY'), 'http://service-a:9/')).output.toString(), /refused/);
});

test('curl with a wrong password comes nowhere', limit, async () => {
  const wrong = (url: string): string => url.replace(/:[^:@]+@/, ':wrong@');
  assert.equal((await curl('--proxy', wrong(value('ALL_PROXY')), 'http://service-a/')).code, 97);
  const { output } = await curl('-w', ' %{http_code}', '--proxy', wrong(value('HTTP_PROXY')), 'http://service-a/');
  assert.match(output.toString(), /password is needed.* 407$/s);
});

test('curl reaches a forward without any proxy', limit, async () => {
  const { output } = await curl(`http://${proxy.view.forwards[0]?.local}/f`);
  assert.match(output.toString(), / \/f$/);
});

test('many at once are served', limit, async () => {
  const all = await Promise.all(
    Array.from({ length: 20 }, (_, index) => curl('--proxy', value('ALL_PROXY'), `http://service-a/${index}`)),
  );
  assert.deepEqual(
    all.map(({ output }) => output.toString()),
    all.map((_, index) => `service-a /${index}`),
  );
});
