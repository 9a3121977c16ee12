import { Duplex } from 'node:stream';
import { tunnelCode } from '../../protocol/index.ts';
import { peerReset } from '../errors.ts';
import type { TakenTunnel } from './dialled.ts';

const bufferBytes = 64 * 1024;

/** A taken tunnel as a duplex of bytes, with half-close, reset and back-pressure kept, for whoever parses it. */
export function toDuplex(tunnel: TakenTunnel): Duplex {
  return new TunnelDuplex(tunnel);
}

/** Nobody wants it any more: the caller has gone meanwhile. */
export function discard(tunnel: TakenTunnel): void {
  new TunnelDuplex(tunnel).destroy(peerReset());
}

class TunnelDuplex extends Duplex {
  readonly #tunnel: TakenTunnel;
  #resumeWrites: (() => void) | undefined;
  #isClosed = false;

  constructor(tunnel: TakenTunnel) {
    super({ allowHalfOpen: true, readableHighWaterMark: bufferBytes, writableHighWaterMark: bufferBytes });
    this.#tunnel = tunnel;
    // A failure is told by `close` without an `end`; as an event it would end the process.
    this.on('error', () => undefined);
    tunnel.attach({
      onControl: (code) => {
        if (code === tunnelCode.disconnect || code === tunnelCode.dialReject) {
          this.destroy(peerReset());
        }
      },
      onData: (slice) => {
        if (!this.destroyed && !this.push(slice)) {
          tunnel.stream.pause();
        }
      },
      onEnd: () => void this.push(null),
      onDrain: () => this.#drain(),
      onClose: (error) => {
        this.#isClosed = true;
        this.#drain();
        if (error) {
          this.destroy(peerReset());
        } else {
          this.push(null);
        }
      },
    });
  }

  override _read(): void {
    this.#tunnel.stream.resume();
  }

  override _write(chunk: Uint8Array, _encoding: string, callback: () => void): void {
    if (this.#isClosed || this.#tunnel.stream.sendData(chunk)) {
      callback();
    } else {
      this.#resumeWrites = callback;
    }
  }

  override _final(callback: () => void): void {
    this.#tunnel.stream.endSend();
    callback();
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    const { stream } = this.#tunnel;
    if (!this.#isClosed) {
      if (error || !this.readableEnded || !this.writableFinished) {
        // A reset is a message: a plain end would turn a failed transfer into a complete one.
        stream.send(tunnelCode.disconnect);
      }
      stream.finish();
      stream.resume();
    }
    callback(error);
  }

  #drain(): void {
    const resume = this.#resumeWrites;
    this.#resumeWrites = undefined;
    resume?.();
  }
}
