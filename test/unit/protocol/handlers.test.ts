import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientHttp2Session, connect } from 'node:http2';
import { after, before, beforeEach, test } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient, type Interceptor } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { systemClock } from '../../../src/base/index.ts';
import { wire } from '../../../src/protocol/index.ts';
import { callerKey, createGrpcServer, type GrpcServer } from '../../../src/protocol/transport/index.ts';

// Calls are not served by the RPC library: its client, and plain HTTP/2, say whether it is gRPC all the same.

const limit = { timeout: 30_000 };
const path = '/telepresence.manager.Manager/WatchWorkloads';
let server: GrpcServer;
let session: ClientHttp2Session;
let client: ReturnType<typeof createClient<typeof wire.Manager>>;
let seen: string[] = [];
let aborted = Promise.withResolvers<void>();
let ended = Promise.withResolvers<void>();
let sent = 0;

const noted =
  (name: string): Interceptor =>
  (next) =>
  (request) => {
    seen.push(`${name} ${request.method.name} ${request.header.get('x-word') ?? ''}`.trim());
    return next(request);
  };
const delta = (...names: string[]) =>
  create(wire.WorkloadEventsDeltaSchema, { events: names.map((name) => ({ workload: { name } })) });

before(async () => {
  server = createGrpcServer({
    clock: systemClock,
    service: 'manager',
    acceptTunnel: () => undefined,
    routes: (router) =>
      router.service(
        wire.Manager,
        {
          version: (_, { values }) => {
            seen.push(`from ${values.get(callerKey).address}`);
            return { name: 'it', version: 'v2.24.0' };
          },
          remain: ({ session }) => {
            if (session?.sessionId === 'wrong') {
              throw new TypeError('a secret');
            }
            throw new ConnectError('no such session', Code.NotFound);
          },
          getClientConfig: async (_, { signal }) => {
            await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
            aborted.resolve();
            return {};
          },
          watchWorkloads: async function* ({ namespace }, { signal, values }) {
            seen.push(`from ${values.get(callerKey).address}`);
            signal.addEventListener('abort', () => aborted.resolve(), { once: true });
            if (namespace === 'refused') {
              throw new ConnectError('not for you: ünd 100 %', Code.PermissionDenied);
            }
            yield delta('a', 'b');
            if (namespace === 'broken') {
              throw new ConnectError('half of it', Code.Aborted);
            }
            if (namespace === 'wrong') {
              throw new TypeError('a secret');
            }
            try {
              for (; namespace === 'endless' && !signal.aborted; sent++) {
                yield delta('x'.repeat(100_000));
              }
            } finally {
              ended.resolve();
            }
            if (namespace === 'impossible') {
              yield { events: [{ workload: { desiredReplicas: 1.5 } }] };
            }
            if (namespace === 'half a sign') {
              throw new ConnectError('\ud83d', Code.NotFound);
            }
            if (namespace === 'long') {
              await aborted.promise;
            }
            yield delta('c');
          },
        },
        { interceptors: [noted('outer'), noted('inner')] },
      ),
  });
  const port = await server.listen(0, '127.0.0.1');
  session = connect(`http://127.0.0.1:${port}`);
  client = createClient(wire.Manager, createGrpcTransport({ baseUrl: `http://127.0.0.1:${port}` }));
});
beforeEach(() => {
  seen = [];
  sent = 0;
  aborted = Promise.withResolvers<void>();
  ended = Promise.withResolvers<void>();
});
after(async () => {
  session.destroy();
  await server.close();
});

async function namesOf(namespace: string, options = {}): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const { events } of client.watchWorkloads({ namespace }, options)) {
      names.push(...events.map(({ workload }) => workload?.name ?? ''));
    }
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error);
    names.push(`${Code[code]}: ${rawMessage}`);
  }
  return names;
}

/** The status of a call whose bytes are these. */
async function statusOf(bytes: Uint8Array, head: Record<string, string> = {}): Promise<string> {
  const stream = session.request({
    ...{ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers', ...head },
  });
  stream.on('error', () => undefined);
  let status = '';
  stream.on('response', (headers) => {
    status ||= headers[':status'] === 200 ? String(headers['grpc-status'] ?? '') : `HTTP ${headers[':status']}`;
  });
  stream.on('trailers', (trailers) => {
    status ||= String(trailers['grpc-status'] ?? '');
  });
  stream.end(bytes);
  stream.resume();
  await once(stream, 'close');
  return status;
}

function framed(message: Uint8Array, flag = 0): Buffer {
  const prefix = Buffer.from([flag, 0, 0, 0, 0]);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}
const request = (namespace: string): Uint8Array =>
  toBinary(wire.WorkloadEventsRequestSchema, create(wire.WorkloadEventsRequestSchema, { namespace }));

const failed =
  (code: Code, text: string) =>
  (error: unknown): boolean =>
    error instanceof ConnectError && error.code === code && error.rawMessage === text;

test('a call with one answer passes the interceptors too, and has it', limit, async () => {
  const { name, version } = await client.version({}, { headers: { 'x-word': 'hello' } });
  assert.deepEqual([name, version], ['it', 'v2.24.0']);
  assert.deepEqual(seen, ['outer Version hello', 'inner Version hello', 'from 127.0.0.1']);
});

test('a call that fails says why, and nothing of what is inside', limit, async () => {
  await assert.rejects(client.remain({}), failed(Code.NotFound, 'no such session'));
  await assert.rejects(client.remain({ session: { sessionId: 'wrong' } }), failed(Code.Internal, 'internal error'));
});

test('a call that nobody waits for any more is told so', limit, async () => {
  await assert.rejects(client.getClientConfig({}, { timeoutMs: 100 }));
  await aborted.promise;
});

test('what is not served here is unimplemented, and what is not gRPC has a status of HTTP', limit, async () => {
  await assert.rejects(client.depart({}), failed(Code.Unimplemented, 'there is no such method here'));
  assert.equal(await statusOf(framed(request('all')), { ':path': '/nobody/Knows' }), String(Code.Unimplemented));
  assert.equal(await statusOf(framed(request('all')), { 'content-type': 'application/json' }), 'HTTP 415');
  assert.equal(await statusOf(framed(request('all')), { ':method': 'PUT' }), 'HTTP 405');
});

test('every message of a watch arrives, and the end, through the interceptors from outside in', limit, async () => {
  assert.deepEqual(await namesOf('all', { headers: { 'x-word': 'hello' } }), ['a', 'b', 'c']);
  assert.deepEqual(seen, ['outer WatchWorkloads hello', 'inner WatchWorkloads hello', 'from 127.0.0.1']);
});

test(
  'a refusal and a break are the status of the call, what came before is kept, and what is inside stays there',
  limit,
  async () => {
    assert.deepEqual(await namesOf('refused'), ['PermissionDenied: not for you: ünd 100 %']);
    assert.deepEqual(await namesOf('broken'), ['a', 'b', 'Aborted: half of it']);
    assert.deepEqual(await namesOf('wrong'), ['a', 'b', 'Internal: internal error']);
  },
);

test('who leaves ends the watch', limit, async () => {
  const controller = new AbortController();
  const read = async (): Promise<void> => {
    for await (const { events } of client.watchWorkloads({ namespace: 'long' }, { signal: controller.signal })) {
      assert.equal(events.length, 2);
      controller.abort();
    }
  };
  await assert.rejects(read());
  await aborted.promise;
});

test('a time limit that the caller has set ends it', limit, async () => {
  assert.deepEqual(await namesOf('long', { timeoutMs: 200 }), ['a', 'b', 'DeadlineExceeded: the operation timed out']);
  await aborted.promise;
});

test('a reader that does not read makes the watch wait', limit, async () => {
  const stream = session.request({
    ...{ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' },
  });
  stream.on('error', () => undefined);
  stream.end(framed(request('endless')));
  await once(stream, 'response');
  let before = -1;
  // Turns of this process, in which the server would go on for ever.
  for (let turn = 0; turn < 200 || before !== sent; turn++) {
    before = sent;
    await client.version({}).catch(() => undefined);
  }
  assert.ok(sent < 200, `${sent} messages of 100 KB`);
  stream.close();
  await aborted.promise;
  // It stands at a message that nobody takes: it has to be told, or what it listens to would hold it for good.
  await ended.promise;
});

test('what cannot be said fails its own call alone', limit, async () => {
  assert.deepEqual(await namesOf('impossible'), ['a', 'b', 'Internal: internal error']);
  assert.deepEqual(await namesOf('half a sign'), ['a', 'b', 'NotFound: \ufffd']);
  assert.deepEqual(await namesOf('all'), ['a', 'b', 'c']);
});

for (const [what, bytes, head, status] of [
  ['no message', new Uint8Array(0), {}, Code.InvalidArgument],
  ['half a message', framed(request('all')).subarray(0, 7), {}, Code.InvalidArgument],
  ['two messages', Buffer.concat([framed(request('all')), framed(request('all'))]), {}, Code.InvalidArgument],
  ['a message of noise', framed(Buffer.from('ff'.repeat(40), 'hex')), {}, Code.InvalidArgument],
  ['a message that is compressed', framed(request('all'), 1), {}, Code.Unimplemented],
  ['a message that is too large', framed(Buffer.alloc(5 * 1024 * 1024)), {}, Code.ResourceExhausted],
  ['a time limit that is none', framed(request('all')), { 'grpc-timeout': 'soon' }, Code.InvalidArgument],
] as const) {
  test(`${what}: the status says so, and the next watch is served`, limit, async () => {
    assert.equal(await statusOf(bytes, head), String(status));
    assert.deepEqual(await namesOf('all'), ['a', 'b', 'c']);
  });
}
