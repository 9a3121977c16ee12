/** NGHTTP2_CANCEL: the stream is not wanted any more. */
export const cancelCode = 8;

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
