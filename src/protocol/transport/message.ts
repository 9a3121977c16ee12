import type { ServerHttp2Stream } from 'node:http2';

/** NGHTTP2_CANCEL: the stream is not wanted any more. */
export const cancelCode = 8;

/** What every answer begins with. */
export const answerHead = { ':status': 200, 'content-type': 'application/grpc+proto' } as const;

/** With the first message, so that they leave together; trailers come behind the last one. */
export function beginAnswer(stream: ServerHttp2Stream): void {
  if (!stream.headersSent && !stream.destroyed) {
    stream.respond(answerHead, { ...undated, waitForTrailers: true });
  }
}

/** In front of each message: a flag for compression, and its length (gRPC over HTTP/2, Length-Prefixed-Message). */
export const prefixBytes = 5;

/** A message as it leaves, uncompressed. */
export function framed(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafeSlow(prefixBytes + message.length);
  frame[0] = 0;
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, prefixBytes);
  return frame;
}

/**
 * For `respond`, which would say the date: a header that is new in every second. Each session of HTTP/2 keeps the headers it
 * has seen (RFC 7541 section 2.3.2), up to 4 KiB and four times of that in memory, and there are hundreds.
 */
export const undated = { sendDate: false } as const;
