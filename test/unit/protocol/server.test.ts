import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:http2';
import { after, before, test } from 'node:test';
import { systemClock } from '../../../src/base/index.ts';
import { wire } from '../../../src/protocol/index.ts';
import { createGrpcServer, type GrpcServer } from '../../../src/protocol/transport/index.ts';

// What any peer may put into the head of a request.

const limit = { timeout: 30_000 };
let server: GrpcServer;
let port = 0;

before(async () => {
  server = createGrpcServer({
    clock: systemClock,
    service: 'manager',
    acceptTunnel: () => undefined,
    routes: (router) => router.service(wire.Manager, { version: () => ({ name: 'it', version: 'v2.24.0' }) }),
  });
  port = await server.listen(0, '127.0.0.1');
});
after(() => server.close());

const version = '/telepresence.manager.Manager/Version';

/** The status of the HTTP answer, or the error that the stream ended with. */
async function call(head: Record<string, string>): Promise<string> {
  const session = connect(`http://127.0.0.1:${port}`);
  session.on('error', () => undefined);
  try {
    const stream = session.request({
      ':method': 'POST',
      ':path': version,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...head,
    });
    stream.end(Buffer.alloc(5));
    stream.resume();
    const answered = once(stream, 'response').then(([headers]) => `${headers[':status']}`);
    const status = await answered.catch((error: NodeJS.ErrnoException) => error.code ?? 'error');
    await (stream.closed ? undefined : once(stream, 'close'));
    return status;
  } finally {
    session.destroy();
  }
}

test('a stock client names the uid of the pod behind the port, and is answered', limit, async () => {
  assert.equal(await call({ ':authority': 'traffic-manager-7d-x.ambassador:8081%23241c4764-92c3' }), '200');
});

for (const [what, head] of [
  ['an authority that is none', { ':authority': '[' }],
  ['an authority full of signs', { ':authority': 'a%5b:99999999' }],
  ['a path that is no path', { ':path': '//[' }],
  ['a path that names another host', { ':path': 'http://[::' }],
] as const) {
  test(`${what}: its own request fails at most, and the next one is answered`, limit, async () => {
    await call(head);
    assert.equal(await call({}), '200');
  });
}

test('answers have no date: every session would keep one of each second', limit, async () => {
  const session = connect(`http://127.0.0.1:${port}`);
  session.on('error', () => undefined);
  try {
    for (const path of [version, '/telepresence.manager.Manager/Unknown']) {
      const stream = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/grpc' });
      stream.end(Buffer.alloc(5));
      stream.resume();
      const [headers] = await once(stream, 'response');
      assert.equal(headers.date, undefined, path);
    }
  } finally {
    session.destroy();
  }
});
