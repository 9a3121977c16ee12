import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { create, type DescMessage, type DescMethodServerStreaming, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createContextValues,
  createServiceImplSpec,
  type HandlerContext,
  type Interceptor,
  type MethodImplSpec,
  type StreamRequest,
  type StreamResponse,
} from '@connectrpc/connect';
import { parseTimeout } from '@connectrpc/connect/protocol-grpc';
import { type Clock, type Disposable, viewOf } from '../../base/index.ts';
import { type Caller, callerKey } from './caller.ts';

const prefixBytes = 5;
const head = { ':status': 200, 'content-type': 'application/grpc+proto' } as const;
const cancelCode = 8;
/** A timer cannot be set for longer; a call that may take weeks has no limit. */
const maxTimeoutMs = 2 ** 31 - 1;

type Messages = AsyncIterable<never>;
type WatchSpec = Extract<MethodImplSpec, { readonly kind: 'server_streaming' }>;

interface Watch {
  readonly spec: WatchSpec;
  readonly interceptors: readonly Interceptor[];
}

export interface IncomingWatch {
  readonly stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  readonly caller: Caller;
  /** Reads the request's bytes; they end early where there are too many of them. */
  readonly read: () => AsyncIterable<Uint8Array>;
}

/**
 * Calls whose answers come one by one, for as long as the caller wants: hundreds of clients hold a dozen each, for days. The
 * library's own way through request, response and its pipeline holds 40 KB for each of them (connect-node 2.2), this one
 * a tenth of it. Interceptors and implementations are the same for both.
 */
export class Watches {
  readonly #watches = new Map<string, Watch>();
  readonly #clock: Clock;
  readonly #maxRequestBytes: number;

  constructor(clock: Clock, maxRequestBytes: number) {
    this.#clock = clock;
    this.#maxRequestBytes = maxRequestBytes;
  }

  /** The same router; what it is told of watches is known here afterwards. */
  listen(router: ConnectRouter): ConnectRouter {
    const listening: ConnectRouter = {
      ...router,
      service: (service, implementation, options) => {
        for (const [name, spec] of Object.entries(createServiceImplSpec(service, implementation).methods)) {
          if (spec.kind === 'server_streaming' && name in implementation) {
            const path = `/${service.typeName}/${spec.method.name}`;
            this.#watches.set(path, { spec, interceptors: options?.interceptors ?? [] });
          }
        }
        router.service(service, implementation, options);
        return listening;
      },
    };
    return listening;
  }

  /** Whether this request is one of them: gRPC without compression, in the binary form. */
  has(headers: IncomingHttpHeaders): boolean {
    return (
      this.#watches.has(headers[':path'] ?? '') &&
      headers[':method'] === 'POST' &&
      /^application\/grpc(\+proto)?$/.test(headers['content-type'] ?? '') &&
      (headers['grpc-encoding'] ?? 'identity') === 'identity'
    );
  }

  /** Serves one to its end. Nothing is thrown: an error is the call's status. */
  serve(incoming: IncomingWatch): void {
    const { stream, headers } = incoming;
    const watch = this.#watches.get(headers[':path'] ?? '');
    const answer = new Answer(stream);
    const { timeoutMs, error } = parseTimeout(headers['grpc-timeout']?.toString() ?? null, maxTimeoutMs);
    if (!watch || error) {
      answer.end(error);
      return;
    }
    if (timeoutMs !== undefined) {
      answer.limit = this.#clock.after(timeoutMs, () =>
        answer.end(new ConnectError('the call took longer than it may', Code.DeadlineExceeded)),
      );
    }
    this.#invoke(watch, incoming, answer.signal).then(
      (messages) => answer.run(messages, watch.spec.method.output),
      (reason: unknown) => answer.fail(reason),
    );
  }

  async #invoke(watch: Watch, { headers, caller, read }: IncomingWatch, signal: AbortSignal): Promise<Messages> {
    const request = await this.#read(read(), watch.spec.method);
    return await invoke(watch, { request, headers, caller, signal });
  }

  /** One message, and the end after it. Errors: `resource_exhausted`, `invalid_argument`, `unimplemented`. */
  async #read(body: AsyncIterable<Uint8Array>, method: DescMethodServerStreaming): Promise<unknown> {
    const chunks: Uint8Array[] = [];
    let length = 0;
    for await (const chunk of body) {
      length += chunk.length;
      if (length > prefixBytes + this.#maxRequestBytes) {
        throw new ConnectError('the request is too large', Code.ResourceExhausted);
      }
      chunks.push(chunk);
    }
    const bytes = Buffer.concat(chunks);
    if (length < prefixBytes || viewOf(bytes).getUint32(1) !== length - prefixBytes) {
      throw new ConnectError('the request is not one message', Code.InvalidArgument);
    }
    if (bytes[0] !== 0) {
      throw new ConnectError('the request is compressed', Code.Unimplemented);
    }
    try {
      return fromBinary(method.input as DescMessage, bytes.subarray(prefixBytes));
    } catch {
      throw new ConnectError('the request is not understood', Code.InvalidArgument);
    }
  }
}

interface Invocation {
  readonly request: unknown;
  readonly headers: IncomingHttpHeaders;
  readonly caller: Caller;
  readonly signal: AbortSignal;
}

/** Through the interceptors, the outermost first, to the implementation. */
async function invoke({ spec, interceptors }: Watch, call: Invocation): Promise<Messages> {
  const { method } = spec;
  const header = new Headers();
  for (const [name, value] of Object.entries(call.headers)) {
    if (typeof value === 'string' && !name.startsWith(':')) {
      header.set(name, value);
    }
  }
  const common = {
    service: method.parent,
    requestMethod: 'POST',
    url: `http://nearfield${call.headers[':path']}`,
    contextValues: createContextValues().set(callerKey, call.caller),
  };
  const implementation = async (request: unknown): Promise<StreamResponse> => {
    const { message, header: requestHeader, contextValues } = request as StreamRequest;
    // The library's own context makes three more signals, which a watch would hold for as long as it lasts.
    const context: HandlerContext = {
      ...{ ...common, method, protocolName: 'grpc', requestHeader, values: contextValues, signal: call.signal },
      ...{ responseHeader: new Headers(), responseTrailer: new Headers(), timeoutMs: () => undefined },
    };
    const first = await message[Symbol.asyncIterator]().next();
    const answers = spec.impl(first.value as never, context);
    return {
      stream: true,
      ...common,
      method,
      header: new Headers(),
      trailer: new Headers(),
      message: answers as never,
    };
  };
  let next = implementation as Parameters<Interceptor>[0];
  for (const interceptor of interceptors.toReversed()) {
    next = interceptor(next);
  }
  const once = async function* (): AsyncGenerator<never> {
    yield call.request as never;
  };
  const response = await next({ stream: true, ...common, method, header, signal: call.signal, message: once() });
  return response.message as Messages;
}

/**
 * What is said to one caller, as fast as they read. While nothing happens it is an iterator and a promise: a function that
 * waits would hold on to all that it has ever seen.
 */
class Answer {
  readonly #stream: ServerHttp2Stream;
  readonly #controller = new AbortController();
  #messages: AsyncIterator<never> | undefined;
  #output: DescMessage | undefined;
  limit: Disposable | undefined;

  constructor(stream: ServerHttp2Stream) {
    this.#stream = stream;
    stream.once('close', () => this.#close());
  }

  /** Fires when the call is over, however it ends. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  run(messages: Messages, output: DescMessage): void {
    this.#messages = messages[Symbol.asyncIterator]();
    this.#output = output;
    this.#next();
  }

  /** Any error but those of calls is a mistake of ours, and its text nobody's business. */
  readonly fail = (reason: unknown): void => {
    this.end(reason instanceof ConnectError ? reason : new ConnectError('internal error', Code.Internal));
  };

  /** The status: in trailers, or with the head where there is nothing else. The first one counts. */
  end(error?: ConnectError): void {
    const stream = this.#stream;
    if (stream.closed || stream.destroyed || stream.writableEnded) {
      return;
    }
    const status: OutgoingHttpHeaders = {
      'grpc-status': String(error?.code ?? 0),
      ...(error ? { 'grpc-message': encodeURIComponent(error.rawMessage) } : {}),
    };
    if (stream.headersSent) {
      stream.once('wantTrailers', () => stream.sendTrailers(status));
      stream.end();
    } else {
      stream.respond({ ...head, ...status }, { endStream: true });
    }
    if (!stream.readableEnded) {
      // What the caller still says is of no interest.
      stream.resume();
      stream.once('finish', () => stream.close(cancelCode));
    }
    this.#close();
  }

  #close(): void {
    void this.limit?.dispose();
    this.limit = undefined;
    this.#controller.abort();
  }

  #next(): void {
    this.#messages?.next().then(this.#take, this.fail);
  }

  readonly #take = ({ done, value }: IteratorResult<never>): void => {
    if (done) {
      this.end();
    } else if (this.#stream.closed || this.#stream.destroyed) {
      void this.#messages?.return?.();
    } else if (this.#write(value)) {
      this.#next();
    } else {
      this.#stream.once('drain', () => this.#next());
    }
  };

  /** The head goes with the first message. Answers false when there is enough on its way. */
  #write(value: never): boolean {
    const output = this.#output as DescMessage;
    const message = toBinary(output, create(output, value));
    const frame = Buffer.allocUnsafeSlow(prefixBytes + message.length);
    frame[0] = 0;
    frame.writeUInt32BE(message.length, 1);
    frame.set(message, prefixBytes);
    if (!this.#stream.headersSent) {
      this.#stream.respond(head, { waitForTrailers: true });
    }
    return this.#stream.write(frame);
  }
}
