import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { gzipSync } from 'node:zlib';
import { callFields, frame, frameType, headerBlock, openRaw, pour, type Target, within } from './frames.ts';

/** Answers in a word what became of it; how the other side is afterwards is for whoever asked to see. */
export type Attack = (target: Target) => Promise<string>;

const limitMs = 8_000;
const endHeaders = 4;
const endStream = 1;
const watchPath = '/telepresence.manager.Manager/WatchIntercepts';
const arrivePath = '/telepresence.manager.Manager/ArriveAsClient';
/** Those of both services: each knows its own, and shrugs at the others. */
const tunnelPaths = ['/telepresence.manager.Manager/Tunnel', '/telepresence.agent.Agent/Tunnel'];
/** What a connection of many tunnels begins with. */
const ownPreface = 'NEARFIELD CONNECTIONS\r\n\r\n';
const tunnelPath = (id: number): string => tunnelPaths[((id - 1) / 2) % tunnelPaths.length] ?? '';

const open = (stream: number, path: string, flags = endHeaders): Buffer =>
  frame(frameType.headers, flags, stream, headerBlock(callFields(path)));
const grpc = (message: Uint8Array, { flag = 0, length = message.length } = {}): Buffer => {
  const prefix = Buffer.alloc(5);
  prefix[0] = flag;
  prefix.writeUInt32BE(length, 1);
  return Buffer.concat([prefix, message]);
};
const data = (stream: number, payload: Uint8Array, flags = 0): Buffer[] => {
  const pieces: Buffer[] = [];
  for (let at = 0; at < payload.length; at += 16_384) {
    const isLast = at + 16_384 >= payload.length;
    pieces.push(frame(frameType.data, isLast ? flags : 0, stream, payload.subarray(at, at + 16_384)));
  }
  return pieces;
};
const odd = (count: number): number[] => Array.from({ length: count }, (_, number) => 2 * number + 1);

/** One connection that says this, and what became of it within the limit. */
const saying =
  (what: () => Uint8Array, times = 1, settings?: Uint8Array): Attack =>
  async (target) => {
    const socket = await openRaw(target, settings);
    const isOpen = await pour(socket, what(), times, limitMs);
    socket.resume();
    const isEnded = !isOpen || (await within(500, once(socket, 'close')));
    socket.destroy();
    return isEnded ? 'ended by the server' : 'taken';
  };

const initialWindow = (bytes: number): Buffer => {
  const setting = Buffer.alloc(6);
  setting.writeUInt16BE(4, 0);
  setting.writeUInt32BE(bytes, 2);
  return setting;
};

/** What is sent to a port that speaks gRPC. Nobody of those who send it has a session. */
export const grpcAttacks: Readonly<Record<string, Attack>> = {
  'noise in place of HTTP': async (target) => {
    const socket = connect({ ...target });
    socket.on('error', () => undefined);
    socket.resume();
    await pour(socket, randomBytes(64 * 1024), 50, limitMs);
    const isEnded = await within(limitMs, once(socket, 'close'));
    socket.destroy();
    return isEnded ? 'ended by the server' : 'taken';
  },
  'frames of random bytes': saying(() =>
    Buffer.concat(odd(200).map((id) => frame(id % 12, id % 7, id, randomBytes(50)))),
  ),
  'random protobuf to many calls': async (target) => {
    const paths = ['ArriveAsClient', 'ArriveAsAgent', 'Remain', 'CreateIntercept', 'ReconnectClient', 'LookupDNS'];
    const bytes = odd(600).flatMap((id) => [
      open(id, `/telepresence.manager.Manager/${paths[id % paths.length]}`),
      ...data(id, grpc(randomBytes(id % 300)), endStream),
    ]);
    return await saying(() => Buffer.concat(bytes))(target);
  },
  'messages longer than they may be': saying(() =>
    Buffer.concat(
      odd(100).flatMap((id) => [open(id, arrivePath), ...data(id, grpc(randomBytes(100), { length: 0xffff_ffff }))]),
    ),
  ),
  'compressed bombs': saying(() => {
    const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024));
    return Buffer.concat(
      odd(50).flatMap((id) => [
        frame(frameType.headers, endHeaders, id, headerBlock({ ...callFields(arrivePath), 'grpc-encoding': 'gzip' })),
        ...data(id, grpc(bomb, { flag: 1 }), endStream),
      ]),
    );
  }),
  'another content type': saying(() =>
    Buffer.concat(
      odd(100).flatMap((id) => [
        frame(
          frameType.headers,
          endHeaders,
          id,
          headerBlock({ ...callFields(arrivePath), 'content-type': 'text/html' }),
        ),
        ...data(id, Buffer.from('<html>'), endStream),
      ]),
    ),
  ),
  'paths and methods that are none': saying(() =>
    Buffer.concat(
      ['', '*', '//', '/../x', 'http://[', '/\u0000', '/telepresence.manager.Manager/Nothing'].map((path, index) =>
        frame(frameType.headers, endHeaders | endStream, 2 * index + 1, headerBlock(callFields(path))),
      ),
    ),
  ),
  'thousands of header fields': saying(() => {
    const fields = Object.fromEntries(Array.from({ length: 700 }, (_, number) => [`x-${number}`, 'v'.repeat(10)]));
    return frame(
      frameType.headers,
      endHeaders,
      1,
      headerBlock({ ...callFields(arrivePath), ...fields }).subarray(0, 16_384),
    );
  }),
  'a header without end': saying(
    () =>
      Buffer.concat([
        open(1, arrivePath, 0),
        ...Array.from({ length: 500 }, () =>
          frame(frameType.continuation, 0, 1, headerBlock({ x: 'y'.repeat(8_000) })),
        ),
      ]),
    10,
  ),
  'a flood of resets': async (target) => {
    const socket = await openRaw(target);
    socket.resume();
    for (let round = 0, id = 1; round < 25 && !socket.destroyed; round++) {
      const frames = Array.from({ length: 1_000 }, () => {
        const both = [open(id, arrivePath), frame(frameType.reset, 0, id, Buffer.of(0, 0, 0, 8))];
        id += 2;
        return both;
      });
      await pour(socket, Buffer.concat(frames.flat()), 1, limitMs);
    }
    const isEnded = socket.destroyed || (await within(500, once(socket, 'close')));
    socket.destroy();
    return isEnded ? 'ended by the server' : 'taken';
  },
  'a flood of settings': saying(
    () => Buffer.concat(Array(1_000).fill(frame(frameType.settings, 0, 0, initialWindow(1)))),
    200,
  ),
  'a flood of pings that nobody reads': saying(
    () => Buffer.concat(Array(1_000).fill(frame(frameType.ping, 0, 0, Buffer.alloc(8)))),
    200,
  ),
  'answers that nobody takes': async (target) => {
    const socket = await openRaw(target, initialWindow(0));
    socket.resume();
    const calls = odd(3_000).flatMap((id) => [open(id, watchPath), ...data(id, grpc(new Uint8Array(0)), endStream)]);
    await pour(socket, Buffer.concat(calls), 1, limitMs);
    await within(2_000, once(socket, 'close'));
    socket.destroy();
    return 'held';
  },
  'requests without end': async (target) => {
    const sockets = await Promise.all(Array.from({ length: 4 }, () => openRaw(target)));
    await Promise.all(
      sockets.map(async (socket) => {
        socket.resume();
        const piece = randomBytes(1024 * 1024);
        for (const id of odd(40)) {
          await pour(
            socket,
            Buffer.concat([open(id, arrivePath), ...data(id, grpc(piece, { length: 4_000_000 }))]),
            1,
            1_000,
          );
        }
      }),
    );
    await within(1_000, once(sockets[0] ?? connect({ ...target }), 'close'));
    for (const socket of sockets) {
      socket.destroy();
    }
    return 'held';
  },
  'tunnels that say nothing': saying(() => Buffer.concat(odd(6_000).map((id) => open(id, tunnelPath(id))))),
  'tunnels full of noise': saying(() =>
    Buffer.concat(odd(1_000).flatMap((id) => [open(id, tunnelPath(id)), ...data(id, randomBytes(200), endStream)])),
  ),
  'openings of our own that are none': async (target) => {
    const bodies = [
      '\xff\xff',
      '\0\x02{}',
      '\0\x10{"session":12345}',
      '\0\x11{"session":"guess"}',
      randomBytes(400).toString('latin1'),
    ];
    const sockets = await Promise.all(
      Array.from({ length: 100 }, async (_, number) => {
        const socket = connect({ ...target });
        socket.on('error', () => undefined);
        await within(3_000, once(socket, 'connect'));
        socket.resume();
        const opening = `${ownPreface.slice(0, number < 20 ? number : undefined)}${bodies[number % bodies.length]}`;
        await pour(socket, Buffer.concat([Buffer.from(opening, 'latin1'), randomBytes(32 * 1024)]), 1, 1_000);
        return socket;
      }),
    );
    const ended = await Promise.all(
      sockets.map((socket) => socket.destroyed || within(limitMs, once(socket, 'close'))),
    );
    for (const socket of sockets) {
      socket.destroy();
    }
    return `${ended.filter(Boolean).length} ended by the server`;
  },
  'hundreds of connections': async (target) => {
    const sockets = await Promise.all(
      Array.from({ length: 600 }, async () => {
        const socket = connect({ ...target });
        socket.on('error', () => undefined);
        await within(3_000, once(socket, 'connect'));
        socket.write('PRI * HT');
        return socket;
      }),
    );
    await within(1_000, new Promise(() => undefined));
    const ended = sockets.filter((socket) => socket.destroyed || socket.readableEnded).length;
    for (const socket of sockets) {
      socket.destroy();
    }
    return `${ended} ended by the server`;
  },
};
