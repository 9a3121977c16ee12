import type { Duplex } from 'node:stream';
import * as v from 'valibot';

/**
 * What a multiplexed connection begins with, in both directions: 25 octets, u16 length, and JSON. The client says whose
 * connections these are, the server whether it takes them; frames follow (`frame.ts`). A server of HTTP/2 that does not
 * know this ends the connection: what it waits for has 24 octets, too, and others (RFC 9113 section 3.4).
 */
export const muxPreface = Buffer.from('NEARFIELD CONNECTIONS\r\n\r\n');
const lengthBytes = 2;
/** A token is a few kilobytes; the API server takes no larger heads either. */
const maxBodyBytes = 16 * 1024;

export const helloSchema = v.object({
  session: v.pipe(v.string(), v.maxLength(512)),
  /** As calls show it in their metadata. */
  authorization: v.optional(v.pipe(v.string(), v.maxLength(maxBodyBytes))),
});
export type Hello = v.InferOutput<typeof helloSchema>;

/** Nothing but `{}`: it is taken. */
export const answerSchema = v.object({
  /** Of gRPC. */
  code: v.optional(v.number()),
  message: v.optional(v.pipe(v.string(), v.maxLength(1024))),
});
export type HelloAnswer = v.InferOutput<typeof answerSchema>;

/** Without the preface, for whoever has sent it already. */
export function openingBody(value: Hello | HelloAnswer): Buffer {
  const body = Buffer.from(JSON.stringify(value));
  const out = Buffer.allocUnsafe(lengthBytes + body.length);
  out.writeUInt16BE(body.length, 0);
  out.set(body, lengthBytes);
  return out;
}

/** Something else came; or nothing did, and whoever it was is gone. */
export type NoOpening = 'malformed' | 'gone';

/** Resolves once. What follows stays in the duplex. */
export function readOpening<T extends v.GenericSchema>(
  duplex: Duplex,
  schema: T,
): Promise<v.InferOutput<T> | NoOpening> {
  return new Promise((resolve) => {
    let bytes: Buffer = Buffer.alloc(0);
    const settle = (opening: v.InferOutput<T> | NoOpening): void => {
      duplex.off('readable', read);
      duplex.off('end', end);
      duplex.off('close', end);
      resolve(opening);
    };
    const end = (): void => settle(bytes.length === 0 ? 'gone' : 'malformed');
    const read = (): void => {
      for (let chunk: unknown = duplex.read(); Buffer.isBuffer(chunk); chunk = duplex.read()) {
        bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
      }
      const bodyAt = muxPreface.length + lengthBytes;
      if (!muxPreface.subarray(0, bytes.length).equals(bytes.subarray(0, muxPreface.length))) {
        settle('malformed');
      } else if (bytes.length >= bodyAt) {
        const length = bytes.readUInt16BE(muxPreface.length);
        if (length > maxBodyBytes) {
          settle('malformed');
        } else if (bytes.length >= bodyAt + length) {
          if (bytes.length > bodyAt + length) {
            duplex.unshift(bytes.subarray(bodyAt + length));
          }
          settle(parse(bytes.subarray(bodyAt, bodyAt + length), schema));
        }
      }
    };
    duplex.on('readable', read);
    duplex.on('end', end);
    duplex.on('close', end);
    if (duplex.destroyed) {
      end();
    } else {
      read();
    }
  });
}

function parse<T extends v.GenericSchema>(body: Buffer, schema: T): v.InferOutput<T> | NoOpening {
  try {
    const parsed = v.safeParse(schema, JSON.parse(body.toString('utf8')));
    return parsed.success ? parsed.output : 'malformed';
  } catch {
    return 'malformed';
  }
}
