import type { ClientHttp2Stream, Http2Stream, IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import type { Code } from '@connectrpc/connect';
import { concatBytes, type NearfieldError } from '../../base/index.ts';
import { callRefused, errorCodeFromGrpc, malformedStream, streamBroken } from '../errors.ts';
import { TunnelDecoder, tunnelCode, tunnelHeader, tunnelMessage } from '../tunnel/index.ts';
import { passed } from './litter.ts';
import { beginAnswer, cancelCode } from './message.ts';

const emptyBody = new Uint8Array(0);
/** Other peers pass it over. */
const resultTrailer = 'nearfield-dial';
/** Below, one write of a copy is cheaper than two. */
const smallBodyBytes = 256;

export interface TunnelHandlers {
  /** A control message other than half-close. */
  onControl(code: number, body: Uint8Array): void;
  /** Payload in order. For UDP, `last` marks the end of a datagram. */
  onData(slice: Uint8Array, last: boolean): void;
  /** The peer sends no more payload. At most once, and never when the stream breaks before. */
  onEnd(): void;
  /** After everything else, once. Without an error the peer ended in order. */
  onClose(error?: NearfieldError): void;
  /** A send answered false before; now there is room. */
  onDrain(): void;
}

/**
 * One connection's tunnel. Sends answer false when the window is full; wait for `onDrain`. `pause` stops the peer through
 * flow control.
 */
export interface TunnelStream {
  /** Starts the delivery of events. */
  start(handlers: TunnelHandlers): void;
  send(code: number, body?: Uint8Array): boolean;
  /** A message that nobody waits for: it may leave a moment later, with what comes then. */
  sendSoon(code: number): void;
  sendData(chunk: Uint8Array): boolean;
  /** No more payload from here. */
  endSend(): void;
  /** What waits for another message to leave with does so now. */
  flush(): void;
  /** Everything was said and heard. `result`: of the dial, which the contract's messages have no room for. */
  finish(result?: string): void;
  /** Gives up at once, both directions. */
  reset(): void;
  pause(): void;
  resume(): void;
  /** Nothing more is sent from here. */
  readonly isSendEnded: boolean;
  readonly isClosed: boolean;
  /** What the far end finished with, once it has; undefined when it said nothing. */
  readonly result: string | undefined;
}

/** A tunnel that is a `Tunnel` call of its own: either end of it. */
export class TunnelCall implements TunnelStream {
  readonly #stream: ClientHttp2Stream | ServerHttp2Stream;
  readonly #isServer: boolean;
  /** Server end: the peer has said who it is, so that nobody needs to count or to hurry it any more. */
  readonly vouch: () => void;
  #handlers: TunnelHandlers | undefined;
  #trailers: Record<string, string> = {};
  /** What goes out with the next message. */
  #held: Uint8Array | undefined;
  #peerEnded = false;
  #sendEnded = false;
  #finished = false;
  #failure: NearfieldError | undefined;

  constructor(stream: ClientHttp2Stream | ServerHttp2Stream, isServer: boolean, vouched: () => void = () => undefined) {
    this.#stream = stream;
    this.#isServer = isServer;
    this.vouch = vouched;
  }

  start(handlers: TunnelHandlers): void {
    this.#handlers = handlers;
    const stream: Http2Stream = this.#stream;
    const decoder = new TunnelDecoder({
      data: (slice, last) => handlers.onData(slice, last),
      control: (code, body) => (code === tunnelCode.closeSend ? this.#end() : handlers.onControl(code, body)),
    });
    stream.on('data', (chunk: Buffer) => {
      passed(chunk.length);
      const why = this.#failure ? undefined : decoder.push(chunk);
      if (why) {
        this.#failure = malformedStream(why);
        this.reset();
      }
    });
    stream.on('end', () => {
      // A reset and a lost connection end the stream object too; they are no end of the payload. Nor is a session that
      // the server gives up: its end comes without trailers.
      if (!stream.rstCode && !stream.destroyed && (this.#isServer || this.#hasStatus)) {
        this.#end();
      }
    });
    stream.on('drain', () => handlers.onDrain());
    stream.on('trailers', (trailers: IncomingHttpHeaders) => {
      this.#keepTrailers(trailers);
      if (stream.readableEnded && this.#hasStatus) {
        this.#end();
      }
    });
    stream.on('error', (error: Error) => {
      this.#failure ??= streamBroken(error.message, error);
    });
    stream.on('close', () => {
      const error = this.#failure ?? this.#grpcFailure();
      if (!error) {
        this.#end();
      }
      handlers.onClose(error);
    });
  }

  send(code: number, body: Uint8Array = emptyBody): boolean {
    if (this.#sendEnded || this.#stream.destroyed || this.#stream.writableEnded) {
      return true;
    }
    if (body.length <= smallBodyBytes) {
      return this.#write(this.#withHeld(tunnelMessage(code, body)));
    }
    passed(body.length);
    // Header and body as two corked writes: copying 64 KB into one buffer halves the throughput.
    this.#stream.cork();
    this.flush();
    this.#write(tunnelHeader(code, body.length));
    const more = this.#stream.write(body);
    this.#stream.uncork();
    return more;
  }

  /** A call of its own has nothing to wait for. */
  sendSoon(code: number): void {
    this.send(code);
  }

  /**
   * For a message that is soon followed by another: both leave in one piece, and wake everybody on their way once.
   * Who may have to wait for the other one calls `flush` in time.
   */
  sendWithNext(code: number, body: Uint8Array = emptyBody): void {
    this.#held = this.#withHeld(tunnelMessage(code, body));
  }

  flush(): void {
    if (this.#held && !this.#sendEnded && !this.#stream.destroyed && !this.#stream.writableEnded) {
      this.#write(this.#withHeld(emptyBody));
    }
  }

  #withHeld(message: Uint8Array): Uint8Array {
    const held = this.#held;
    this.#held = undefined;
    return held ? concatBytes([held, message]) : message;
  }

  #write(bytes: Uint8Array): boolean {
    if (this.#isServer) {
      beginAnswer(this.#stream as ServerHttp2Stream);
    }
    return this.#stream.write(bytes);
  }

  sendData(chunk: Uint8Array): boolean {
    return this.send(tunnelCode.normal, chunk);
  }

  /** A gRPC server cannot half-close: there it is a message. */
  endSend(): void {
    if (this.#sendEnded) {
      return;
    }
    if (this.#isServer) {
      this.send(tunnelCode.closeSend);
      this.#sendEnded = true;
    } else {
      this.flush();
      this.#sendEnded = true;
      this.#stream.end();
    }
  }

  /** Server end: ends the call with status OK. Client end: the same as `endSend`. */
  finish(result?: string): void {
    this.#finish({ 'grpc-status': '0', ...(result === undefined ? {} : { [resultTrailer]: result }) });
  }

  /** Server end: ends the call with another status. */
  refuse(code: Code, message: string): void {
    this.#finish({ 'grpc-status': String(code), 'grpc-message': message });
  }

  #finish(trailers: Readonly<Record<string, string>>): void {
    this.flush();
    this.#sendEnded = true;
    if (this.#finished || this.#stream.destroyed) {
      return;
    }
    this.#finished = true;
    if (this.#stream.writableEnded) {
      // A second end makes an error object that nobody sees.
      return;
    }
    if ('respond' in this.#stream) {
      const server = this.#stream;
      beginAnswer(server);
      server.once('wantTrailers', () => server.sendTrailers(trailers));
    }
    this.#stream.end();
  }

  reset(): void {
    this.#sendEnded = true;
    if (!this.#stream.destroyed) {
      this.#stream.close(cancelCode);
    }
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  /** On the server's side nobody says anything. */
  get result(): string | undefined {
    return this.#trailers[resultTrailer];
  }

  get isSendEnded(): boolean {
    return this.#sendEnded;
  }

  get isClosed(): boolean {
    return this.#stream.closed || this.#stream.destroyed;
  }

  get #hasStatus(): boolean {
    return this.#trailers['grpc-status'] !== undefined;
  }

  #end(): void {
    if (!this.#peerEnded) {
      this.#peerEnded = true;
      this.#handlers?.onEnd();
    }
  }

  #keepTrailers(trailers: IncomingHttpHeaders): void {
    for (const [name, value] of Object.entries(trailers)) {
      if (typeof value === 'string') {
        this.#trailers[name] = value;
      }
    }
  }

  #grpcFailure(): NearfieldError | undefined {
    if (this.#isServer) {
      if (this.#stream.rstCode) {
        return streamBroken(`reset with code ${this.#stream.rstCode}`);
      }
      return this.#finished ? undefined : streamBroken('the connection ended');
    }
    const status = this.#trailers['grpc-status'];
    if (status === undefined) {
      return streamBroken(`ended without a status (reset code ${this.#stream.rstCode ?? 0})`);
    }
    const number = Number(status);
    return number === 0 ? undefined : callRefused(errorCodeFromGrpc(number), this.#trailers['grpc-message'] ?? '');
  }
}
