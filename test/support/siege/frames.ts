import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** RFC 9113, as far as one needs it to break its rules. */
export const frameType = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, window: 8, continuation: 9 } as const;
export const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

export function frame(type: number, flags: number, stream: number, payload: Uint8Array = new Uint8Array(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** HPACK without table and Huffman: a literal that is never indexed, with both strings as they are (RFC 7541 §6.2.3). */
export function headerBlock(fields: Readonly<Record<string, string>>): Buffer {
  const text = (value: string): Buffer => Buffer.concat([integer(value.length, 7), Buffer.from(value)]);
  return Buffer.concat(Object.entries(fields).flatMap(([name, value]) => [Buffer.of(0x10), text(name), text(value)]));
}

function integer(value: number, bits: number): Buffer {
  const most = 2 ** bits - 1;
  if (value < most) {
    return Buffer.of(value);
  }
  const out = [most];
  let left = value - most;
  for (; left >= 0x80; left = Math.floor(left / 0x80)) {
    out.push((left % 0x80) | 0x80);
  }
  return Buffer.from([...out, left]);
}

export const callFields = (path: string): Record<string, string> => ({
  ':method': 'POST',
  ':scheme': 'http',
  ':path': path,
  ':authority': 'traffic-manager',
  'content-type': 'application/grpc',
  te: 'trailers',
});

export interface Target {
  readonly host: string;
  readonly port: number;
}

/** A bare connection that has said what HTTP/2 begins with; `settings` is the payload of our first frame. */
export async function openRaw(target: Target, settings: Uint8Array = new Uint8Array(0)): Promise<Socket> {
  const socket = connect({ ...target });
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.write(Buffer.concat([preface, frame(frameType.settings, 0, 0, settings)]));
  return socket;
}

/** Writes while the peer takes it, for as long as it does, up to a limit. Answers false when the peer has ended it. */
export async function pour(socket: Socket, chunk: Uint8Array, times: number, limitMs: number): Promise<boolean> {
  const end = performance.now() + limitMs;
  for (let time = 0; time < times && performance.now() < end; time++) {
    if (socket.destroyed) {
      return false;
    }
    if (!socket.write(chunk)) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(done, Math.max(0, end - performance.now()));
        function done(): void {
          clearTimeout(timer);
          socket.off('drain', done).off('close', done);
          resolve();
        }
        socket.once('drain', done).once('close', done);
      });
    }
  }
  return !socket.destroyed;
}

export async function within(limitMs: number, what: Promise<unknown>): Promise<boolean> {
  const timer = Promise.withResolvers<false>();
  const limit = setTimeout(() => timer.resolve(false), limitMs);
  const isDone = await Promise.race([
    what.then(
      () => true,
      () => true,
    ),
    timer.promise,
  ]);
  clearTimeout(limit);
  return isDone;
}
