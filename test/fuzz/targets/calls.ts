import assert from 'node:assert/strict';
import { type ClientHttp2Session, connect } from 'node:http2';
import { create, toBinary } from '@bufbuild/protobuf';
import { systemClock } from '../../../src/base/index.ts';
import { parseStreamInfo, serializeStreamInfo, wire } from '../../../src/protocol/index.ts';
import { createGrpcServer } from '../../../src/protocol/transport/index.ts';
import { deployment, FakeCluster, webService } from '../../unit/manager/fake-cluster.ts';
import { fakeManager } from '../../unit/manager/fake-manager.ts';
import { clientInfo } from '../../unit/manager/messages.ts';
import type { Target } from '../target.ts';

const limitMs = 20_000;
const methods = Object.values(wire.Manager.method)
  .filter(({ methodKind }) => methodKind === 'unary')
  .map(({ name }) => name);

/** Calls to the manager over the wire: every one gets a status, and whatever it was, the next one is served. */
export async function openCallsTarget(): Promise<Target> {
  const { routes, router, store } = fakeManager(new FakeCluster(deployment(), webService()));
  const server = createGrpcServer({
    ...{ clock: systemClock, service: 'manager', routes },
    acceptTunnel: (...call) => router.accept(...call),
  });
  const session = connect(`http://127.0.0.1:${await server.listen(0, '127.0.0.1')}`);
  session.on('error', () => undefined);
  return {
    hangMs: limitMs,
    seeds: [
      toBinary(wire.ClientInfoSchema, clientInfo()),
      toBinary(wire.RemainRequestSchema, create(wire.RemainRequestSchema, { session: { sessionId: 'x' } })),
      serializeStreamInfo({
        ...{ roundtripLatencyMs: 1, dialTimeoutMs: 1_000, sessionId: 'x' },
        id: {
          ...{ protocol: 'tcp', source: Uint8Array.of(10, 0, 0, 1), sourcePort: 1 },
          ...{ destination: Uint8Array.of(10, 0, 0, 2), destinationPort: 2 },
        },
      }),
    ],
    async run(input, random) {
      const info = parseStreamInfo(input);
      assert.ok(info === undefined || info.sessionId.length <= 512);
      const method = methods[random.below(methods.length)] ?? '';
      assert.match(await call(session, method, input), /^\d+$/);
    },
    settle() {
      // Each that arrived had a random name; none may hold more than itself.
      assert.ok(store.clients.size <= 2_000);
    },
    async close() {
      session.destroy();
      await server.close();
    },
  };
}

function call(session: ClientHttp2Session, method: string, message: Uint8Array): Promise<string> {
  return new Promise((resolve, reject) => {
    const timer = systemClock.after(limitMs, () => reject(new RangeError(`${method} did not answer`)));
    const stream = session.request({
      ...{ ':method': 'POST', ':path': `/telepresence.manager.Manager/${method}` },
      ...{ 'content-type': 'application/grpc', te: 'trailers' },
    });
    let status = '';
    const read = (headers: Readonly<Record<string, unknown>>): void => {
      status ||= String(headers['grpc-status'] ?? '');
    };
    stream
      .on('response', read)
      .on('trailers', read)
      .on('error', () => undefined);
    stream.on('close', () => {
      void timer.dispose();
      resolve(status);
    });
    stream.resume();
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(message.length, 1);
    stream.end(Buffer.concat([prefix, message]));
  });
}
