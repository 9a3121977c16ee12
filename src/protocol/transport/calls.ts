import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders } from 'node:http2';
import {
  create,
  type DescMessage,
  type DescMethodStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { Code, ConnectError, type StreamResponse, type Transport, type UnaryResponse } from '@connectrpc/connect';
import { ChunkList, systemClock, viewOf } from '../../base/index.ts';
import { openCall } from './client.ts';
import { cancelCode, framed, prefixBytes } from './message.ts';

/** 4 MiB is what stock peers accept; a snapshot of thousands of workloads must fit too. */
const maxMessageBytes = 64 * 1024 * 1024;
/** Messages of a watch that its reader has not taken; beyond them the peer waits. */
const maxQueued = 64;

export interface CallOptions {
  /** The metadata that says who calls; asked for each call, since tokens are renewed. */
  readonly authorization?: (() => Promise<string | undefined>) | undefined;
}

/**
 * gRPC calls over an HTTP/2 session that is already open, behind the RPC library's own interface. The library's
 * client starts to read a response one turn late, and fails (“premature close”) about once in five when response,
 * trailers and reset arrive in one piece, as they do through a port-forward (connect-node 2.2, Node 24.21).
 */
export function createCallTransport(session: ClientHttp2Session, { authorization }: CallOptions = {}): Transport {
  return {
    async unary<I extends DescMessage, O extends DescMessage>(
      method: DescMethodUnary<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      _header: unknown,
      input: MessageInitShape<I>,
    ): Promise<UnaryResponse<I, O>> {
      const call = new Call(session, method, await authorization?.(), signal, timeoutMs);
      call.send(toBinary(method.input, create(method.input, input)));
      for await (const bytes of call.messages()) {
        // The status comes after the message: only then is the answer one.
        await call.ended;
        const message = fromBinary(method.output, bytes);
        return {
          stream: false,
          service: method.parent,
          method,
          header: new Headers(),
          trailer: new Headers(),
          message,
        };
      }
      throw new ConnectError('the peer answered without a message', Code.Internal);
    },
    async stream<I extends DescMessage, O extends DescMessage>(
      method: DescMethodStreaming<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      _header: unknown,
      input: AsyncIterable<MessageInitShape<I>>,
    ): Promise<StreamResponse<I, O>> {
      const call = new Call(session, method, await authorization?.(), signal, timeoutMs);
      // Watches have one request; tunnels do not come this way.
      for await (const request of input) {
        call.send(toBinary(method.input, create(method.input, request)));
        break;
      }
      return {
        stream: true,
        service: method.parent,
        method,
        header: new Headers(),
        trailer: new Headers(),
        message: decoded(call, method.output),
      };
    },
  };
}

async function* decoded<O extends DescMessage>(call: Call, output: O): AsyncGenerator<MessageShape<O>> {
  try {
    for await (const bytes of call.messages()) {
      yield fromBinary(output, bytes);
    }
  } finally {
    call.cancel();
  }
}

class Call {
  readonly #stream: ClientHttp2Stream;
  readonly #chunks = new ChunkList();
  readonly #queue: Uint8Array[] = [];
  readonly #done = Promise.withResolvers<void>();
  #wake: () => void = () => undefined;
  #outcome: 'open' | 'ended' | ConnectError = 'open';
  #status: ConnectError | 'ok' | undefined;

  constructor(
    session: ClientHttp2Session,
    method: { readonly parent: { readonly typeName: string }; readonly name: string },
    authorization: string | undefined,
    signal?: AbortSignal,
    timeoutMs?: number,
  ) {
    this.#done.promise.catch(() => undefined);
    if (session.closed || session.destroyed || signal?.aborted) {
      throw new ConnectError('the connection is closed', signal?.aborted ? Code.Canceled : Code.Unavailable);
    }
    const path = `/${method.parent.typeName}/${method.name}`;
    this.#stream = openCall(session, path, authorization === undefined ? {} : { authorization });
    const cancel = (code: Code, why: string) => (): void => {
      this.#settle(new ConnectError(why, code));
      this.#stream.close(cancelCode);
    };
    const abort = cancel(Code.Canceled, 'the call was cancelled');
    signal?.addEventListener('abort', abort, { once: true });
    const timer =
      timeoutMs === undefined
        ? undefined
        : systemClock.after(timeoutMs, cancel(Code.DeadlineExceeded, 'the peer did not answer in time'));
    const readStatus = (headers: IncomingHttpHeaders): void => {
      this.#status = statusOf(headers) ?? this.#status;
    };
    this.#stream.on('response', readStatus);
    this.#stream.on('trailers', readStatus);
    this.#stream.on('data', (chunk: Buffer) => this.#receive(chunk));
    this.#stream.on('close', () => {
      void timer?.dispose();
      signal?.removeEventListener('abort', abort);
      this.#settle(
        this.#status === 'ok' ? 'ended' : (this.#status ?? new ConnectError('the connection broke', Code.Unavailable)),
      );
    });
  }

  /** Resolves after status OK; rejects with what the peer said. */
  get ended(): Promise<void> {
    return this.#done.promise;
  }

  send(message: Uint8Array): void {
    this.#stream.end(framed(message));
  }

  async *messages(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const message = this.#queue.shift();
      if (message) {
        if (this.#queue.length < maxQueued / 2) {
          this.#stream.resume();
        }
        yield message;
      } else if (this.#outcome === 'ended') {
        return;
      } else if (this.#outcome !== 'open') {
        throw this.#outcome;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  /** For a reader that leaves early. */
  cancel(): void {
    if (this.#outcome === 'open') {
      this.#stream.close(cancelCode);
    }
  }

  #receive(chunk: Buffer): void {
    this.#chunks.push(chunk);
    for (let prefix = this.#chunks.peek(prefixBytes); prefix; prefix = this.#chunks.peek(prefixBytes)) {
      const length = viewOf(prefix).getUint32(1);
      if (prefix[0] !== 0 || length > maxMessageBytes) {
        this.#settle(new ConnectError('the peer sent a message that is not understood', Code.Internal));
        this.#stream.close(cancelCode);
        return;
      }
      if (this.#chunks.length < prefixBytes + length) {
        return;
      }
      this.#chunks.skip(prefixBytes);
      this.#queue.push(Uint8Array.from(this.#chunks.take(length) ?? []));
      if (this.#queue.length >= maxQueued) {
        this.#stream.pause();
      }
      this.#wake();
    }
  }

  #settle(outcome: 'ended' | ConnectError): void {
    if (this.#outcome !== 'open') {
      return;
    }
    this.#outcome = outcome;
    if (outcome === 'ended') {
      this.#done.resolve();
    } else {
      this.#done.reject(outcome);
    }
    this.#wake();
  }
}

/** What headers or trailers say of how a call ended; undefined when they say nothing of it. */
export function statusOf(headers: IncomingHttpHeaders): ConnectError | 'ok' | undefined {
  const status = headers['grpc-status'];
  if (status === undefined) {
    const http = Number(headers[':status'] ?? 200);
    // An answer of HTTP alone: a server without this service, or something that stands before it.
    return http === 200
      ? undefined
      : new ConnectError(`the peer answered with HTTP ${http}`, httpCodes[http] ?? Code.Unknown);
  }
  const code = Number(status);
  const message = decodeURIComponentSafely(String(headers['grpc-message'] ?? ''));
  return code === 0 ? 'ok' : new ConnectError(message, code as Code);
}

/** As gRPC's specification maps them. */
const httpCodes: Readonly<Record<number, Code>> = {
  400: Code.Internal,
  401: Code.Unauthenticated,
  403: Code.PermissionDenied,
  404: Code.Unimplemented,
  429: Code.Unavailable,
  502: Code.Unavailable,
  503: Code.Unavailable,
  504: Code.Unavailable,
};

/** gRPC percent-encodes messages; a peer that does it wrongly is read as it is. */
function decodeURIComponentSafely(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
