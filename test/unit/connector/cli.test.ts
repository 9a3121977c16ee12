import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseArgs, promisify } from 'node:util';
import { isReason } from '../../../src/base/index.ts';
import { attachFlags, readAttach } from '../../../src/connector/cli/attach.ts';
import { describe, describeAttachment, describeWorkload } from '../../../src/connector/cli/describe.ts';
import { readSyntax, writeEnvironment } from '../../../src/connector/cli/environment.ts';
import { readLogLevel } from '../../../src/connector/cli/log-level.ts';
import {
  type AttachMode,
  type Attachment,
  type AttachRequest,
  emptySnapshot,
} from '../../../src/connector/contract.ts';

function read(mode: AttachMode, ...args: string[]): AttachRequest {
  const { values, positionals } = parseArgs({ args, options: attachFlags, allowPositionals: true });
  return readAttach(mode, positionals[0], values);
}

test('whoever asks for help gets it, and whoever errs is told so', { timeout: 20_000 }, async () => {
  const main = join(import.meta.dirname, '../../../src/connector/main.ts');
  const nearfield = (...args: string[]) => promisify(execFile)(process.execPath, [main, ...args], { timeout: 15_000 });
  for (const asked of ['--help', '-h', 'help']) {
    assert.match((await nearfield(asked)).stdout, /nearfield connect .*nearfield quit/s);
  }
  await assert.rejects(nearfield('conect'), { code: 2, stdout: '' });
});

test('a log level is one that there is, and for a while', () => {
  assert.deepEqual(readLogLevel('Warning'), { level: 'warn', minutes: 30 });
  assert.deepEqual(readLogLevel('trace', { minutes: '5' }), { level: 'trace', minutes: 5 });
  const isBadRequest = (error: unknown): boolean => isReason(error, 'connector.bad-request');
  for (const [level, minutes] of [
    ['loud'],
    [undefined],
    ['info', '0'],
    ['info', '1441'],
    ['info', '-5'],
    ['info', '1e3'],
  ]) {
    assert.throws(() => readLogLevel(level, { minutes }), isBadRequest);
  }
});

test('the flags of the public client are read', () => {
  const request = read(
    'intercept',
    ...['web', '--port', '3000:http', '-p', '5353:dns/UDP', '--http-header', 'x-user=ann', '--http-header', 'X-B: c=d'],
    ...['--http-path-prefix', '/api', '--http-path-equal', '/x', '--http-method', 'GET,POST'],
    ...['--to-pod', '6379,8125/UDP', '--container', 'server', '--service', 'web-internal'],
  );
  assert.deepEqual(request, {
    mode: 'intercept',
    workload: 'web',
    container: 'server',
    service: 'web-internal',
    ports: [
      { local: 3000, remote: 'http', protocol: 'TCP' },
      { local: 5353, remote: 'dns', protocol: 'UDP' },
    ],
    filters: {
      headers: { 'x-user': 'ann', 'X-B': 'c=d' },
      paths: [':path-equal:/x', ':path-prefix:/api'],
      methods: ['GET', 'POST'],
    },
    toPod: [
      { port: 6379, protocol: 'TCP' },
      { port: 8125, protocol: 'UDP' },
    ],
    mount: { isReadOnly: false },
  });
});

test('volumes come into a folder of ours, into a named one, or not', () => {
  const mountOf = (...flags: string[]) => read('ingest', 'web', ...flags).mount;
  assert.deepEqual(mountOf('--mount', '/tmp/web'), { isReadOnly: false, folder: '/tmp/web' });
  assert.deepEqual(mountOf('--mount', '/tmp/web:ro'), { isReadOnly: true, folder: '/tmp/web' });
  assert.deepEqual(mountOf('--mount', 'true:ro'), { isReadOnly: true });
  assert.equal(mountOf('--mount', 'false'), undefined);
});

test('with --workload the first word is the attachment’s name', () => {
  const request = read('wiretap', 'mine', '-w', 'deployment/web', '-p', '3000');
  assert.deepEqual([request.workload, request.name], ['deployment/web', 'mine']);
});

test('a replaced container brings all its ports unless some are named', () => {
  assert.deepEqual(read('replace', 'web').ports, []);
  assert.deepEqual(read('replace', 'web', '--port', 'all').ports, []);
  assert.deepEqual(read('replace', 'web', '-p', '3000:8080').ports, [{ local: 3000, remote: '8080', protocol: 'TCP' }]);
});

for (const [what, args, words] of [
  ['no workload', ['intercept'], /say which workload/],
  ['no port', ['intercept', 'web'], /say which port/],
  ['a port that is none', ['intercept', 'web', '-p', 'http:3000'], /is no port: write LOCAL/],
  ['a header that is none', ['wiretap', 'web', '-p', '1', '--http-header', 'x'], /is no header/],
  ['a pod port that is none', ['ingest', 'web', '--to-pod', 'x'], /is no port of a pod/],
] as const) {
  test(`the command line is refused with ${what}`, () => {
    const [mode, ...rest] = args;
    assert.throws(() => read(mode, ...rest), words);
  });
}

const nasty = { B: `it's "$HOME" \\`, A: 'plain', C: 'two\nlines', D: '' };

test('an environment is written for Docker Compose and .env files', () => {
  assert.equal(writeEnvironment(nasty, 'compose'), 'A=plain\nB="it\'s \\"\\$HOME\\" \\\\"\nC="two\\nlines"\nD=\n');
});

test('an environment is written for a shell', () => {
  assert.equal(
    writeEnvironment(nasty, 'sh:export'),
    "export A=plain\nexport B='it'\\''s \"$HOME\" \\'\nexport C='two\nlines'\nexport D=''\n",
  );
});

test('an environment is written as JSON, sorted', () => {
  assert.equal(writeEnvironment({ B: '2', A: '1' }, 'json'), '{\n  "A": "1",\n  "B": "2"\n}\n');
});

test('what a syntax cannot hold is refused by the variable’s name and not its value', () => {
  assert.throws(
    () => writeEnvironment(nasty, 'docker'),
    ({ message }: Error) => message.includes('value of C') && !message.includes('lines\n') && !message.includes('two'),
  );
  assert.throws(() => readSyntax('yaml'), /--env-syntax is one of/);
});

const attachment: Attachment = {
  name: 'web',
  mode: 'wiretap',
  workload: 'web',
  kind: 'Deployment',
  namespace: 'shop',
  container: 'server',
  localHost: '127.0.0.1',
  ports: [{ remote: 'http', servicePort: 80, containerPort: 8080, localPort: 3000, protocol: 'TCP' }],
  filters: { headers: { 'x-user': 'ann' }, paths: [':path-prefix:/api'], methods: ['GET'] },
  toPod: [{ port: 6379, protocol: 'TCP' }],
  state: 'active',
};

test('the status says by which way the cluster is reached, and what the shorter one would need', () => {
  const statusOf = (way?: 'proxy' | 'port-forward' | 'sealed'): string =>
    describe({
      ...emptySnapshot,
      manager: { name: 'Nearfield', version: 'v2.24.0', agentImage: 'image', ...(way ? { way } : {}) },
    });
  assert.match(statusOf('proxy'), /^Way to the cluster : the API server’s proxy$/m);
  assert.match(statusOf('port-forward'), /^Way to the cluster : a port-forward, .*pods\/proxy/m);
  assert.match(statusOf('sealed'), /^Way to the cluster : a port-forward, because a token is shown$/m);
  assert.doesNotMatch(statusOf(), /Way to the cluster/);
});

test('an attachment is one line with its mode, ports and filter', () => {
  assert.equal(
    describeAttachment(attachment),
    'web: wiretap of http → 127.0.0.1:3000, requests with method GET, header x-user: ann, path prefix /api, to the pod: 6379',
  );
});

test('a workload names who holds it', () => {
  const workload = {
    kind: 'Deployment',
    name: 'web',
    namespace: 'shop',
    state: 'intercepted',
    interceptedBy: ['bob@desk'],
  } as const;
  assert.match(
    describeWorkload(workload, [attachment]),
    /^deployment web\.shop: intercepted by bob@desk\n {2}web: wiretap/,
  );
});
