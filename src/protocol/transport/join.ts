import type { TunnelHandlers, TunnelStream } from './stream.ts';

/** The handlers of `from` when everything it says goes to `to`, with back-pressure. Use it in both directions. */
export function joinTo(from: TunnelStream, to: TunnelStream, protocol: 'tcp' | 'udp'): TunnelHandlers {
  let parts: Uint8Array[] = [];
  return {
    onControl: (code, body) => void to.send(code, body),
    onData(slice, last) {
      let message = slice;
      if (protocol === 'udp') {
        // A datagram is one message: its border must survive.
        parts.push(slice);
        if (!last) {
          return;
        }
        message = parts.length === 1 ? slice : Buffer.concat(parts);
        parts = [];
      }
      if (!to.sendData(message)) {
        from.pause();
      }
    },
    onEnd() {
      to.endSend();
      if (from.isSendEnded) {
        // Both directions are over: a call that nobody ends would stay open as long as its connection.
        from.finish();
        to.finish();
      }
    },
    onDrain: () => to.resume(),
    onClose: (error) => (error ? to.reset() : to.finish()),
  };
}
