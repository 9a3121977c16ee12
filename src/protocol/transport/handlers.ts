import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { create, type DescMessage, type DescMethod, type DescService, fromBinary } from '@bufbuild/protobuf';
import {
  Code,
  ConnectError,
  type ContextValues,
  createContextValues,
  createServiceImplSpec,
  type HandlerContext,
  type Interceptor,
  type MethodImplSpec,
  type ServiceImpl,
  type StreamRequest,
  type StreamResponse,
  type UnaryRequest,
  type UnaryResponse,
} from '@connectrpc/connect';
import { parseTimeout } from '@connectrpc/connect/protocol-grpc';
import { type Clock, viewOf } from '../../base/index.ts';
import { Answer } from './answer.ts';
import { type Caller, callerKey } from './caller.ts';
import { prefixBytes } from './message.ts';

/** A timer cannot be set for longer; a call that may take weeks has no limit. */
const maxTimeoutMs = 2 ** 31 - 1;

/** What services are told to; the library's own router is one, too. */
export interface ServiceRouter {
  service<T extends DescService>(
    service: T,
    implementation: Partial<ServiceImpl<T>>,
    options?: { readonly interceptors?: Interceptor[] },
  ): unknown;
}

type Spec = Extract<MethodImplSpec, { readonly kind: 'unary' | 'server_streaming' }>;

interface Handler {
  readonly spec: Spec;
  readonly interceptors: readonly Interceptor[];
}

export interface IncomingCall {
  readonly stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  readonly caller: Caller;
  /** Reads the request's bytes; they end early where there are too many of them. */
  readonly read: () => AsyncIterable<Uint8Array>;
}

/**
 * Serves calls with one request: gRPC over HTTP/2 as its specification has it, without compression. Services, interceptors
 * and errors are the RPC library's; its way through Node's request, response and a pipeline is not taken, since that holds
 * 41 KB for as long as a call lasts (connect-node 2.2), and hundreds of clients hold a dozen watches each, for days.
 */
export class Handlers implements ServiceRouter {
  readonly #handlers = new Map<string, Handler>();
  readonly #clock: Clock;
  readonly #maxRequestBytes: number;

  constructor(clock: Clock, maxRequestBytes: number) {
    this.#clock = clock;
    this.#maxRequestBytes = maxRequestBytes;
  }

  service<T extends DescService>(
    service: T,
    implementation: Partial<ServiceImpl<T>>,
    options?: { readonly interceptors?: Interceptor[] },
  ): this {
    for (const [name, spec] of Object.entries(createServiceImplSpec(service, implementation).methods)) {
      if (name in implementation && (spec.kind === 'unary' || spec.kind === 'server_streaming')) {
        const path = `/${service.typeName}/${spec.method.name}`;
        this.#handlers.set(path, { spec, interceptors: options?.interceptors ?? [] });
      }
    }
    return this;
  }

  /** Serves one to its end. Nothing is thrown: an error is the call's status. */
  serve(incoming: IncomingCall): void {
    const { stream, headers } = incoming;
    const answer = new Answer(stream);
    if (headers[':method'] !== 'POST') {
      answer.refuse(405);
      return;
    }
    if (!/^application\/grpc(\+proto)?$/.test(headers['content-type'] ?? '')) {
      answer.refuse(415);
      return;
    }
    const handler = this.#handlers.get(headers[':path'] ?? '');
    const { timeoutMs, error } = parseTimeout(headers['grpc-timeout']?.toString() ?? null, maxTimeoutMs);
    if (!handler || error) {
      answer.end(error ?? new ConnectError('there is no such method here', Code.Unimplemented));
      return;
    }
    if (timeoutMs !== undefined) {
      answer.limit = this.#clock.after(timeoutMs, () =>
        answer.end(new ConnectError('the call took longer than it may', Code.DeadlineExceeded)),
      );
    }
    const { output } = handler.spec.method;
    this.#invoke(handler, incoming, answer.signal)
      .then(({ stream, message }) =>
        stream ? answer.run(message as AsyncIterable<unknown>, output) : answer.say(message, output),
      )
      .catch(answer.fail);
  }

  async #invoke(handler: Handler, { headers, caller, read }: IncomingCall, signal: AbortSignal): Promise<AnyResponse> {
    const message = await this.#read(read(), handler.spec.method);
    return await invoke(handler, { message, headers, caller, signal });
  }

  /** One message, and the end after it. Errors: `resource_exhausted`, `invalid_argument`, `unimplemented`. */
  async #read(body: AsyncIterable<Uint8Array>, method: DescMethod): Promise<object> {
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

type AnyRequest = UnaryRequest | StreamRequest;
type AnyResponse = UnaryResponse | StreamResponse;

interface Invocation {
  readonly message: object;
  readonly headers: IncomingHttpHeaders;
  readonly caller: Caller;
  readonly signal: AbortSignal;
}

/** Through the interceptors, the outermost first, to the implementation. */
async function invoke({ spec, interceptors }: Handler, call: Invocation): Promise<AnyResponse> {
  const { method } = spec;
  const common = {
    service: method.parent,
    requestMethod: 'POST',
    url: `http://nearfield${call.headers[':path']}`,
    contextValues: createContextValues().set(callerKey, call.caller),
    header: headersOf(call.headers),
    signal: call.signal,
  };
  const message = spec.kind === 'unary' ? call.message : one(call.message);
  const request = { ...common, method, stream: spec.kind !== 'unary', message } as unknown as AnyRequest;
  let next: (request: AnyRequest) => Promise<AnyResponse> = (each) => implementationOf(spec, each);
  for (const interceptor of interceptors.toReversed()) {
    next = interceptor(next);
  }
  return await next(request);
}

async function implementationOf(spec: Spec, request: AnyRequest): Promise<AnyResponse> {
  const { method } = spec;
  const common = { service: method.parent, method, header: new Headers(), trailer: new Headers() };
  const context = new CallContext(request);
  if (spec.kind === 'unary') {
    const answer = await spec.impl(request.message as never, context);
    return { ...common, stream: false, message: create(method.output, answer) } as unknown as AnyResponse;
  }
  const first = await (request.message as AsyncIterable<never>)[Symbol.asyncIterator]().next();
  return { ...common, stream: true, message: spec.impl(first.value as never, context) } as unknown as AnyResponse;
}

/** The library's own makes three more signals, which a watch would hold for as long as it lasts. */
class CallContext implements HandlerContext {
  readonly method: HandlerContext['method'];
  readonly service: DescService;
  readonly signal: AbortSignal;
  readonly values: ContextValues;
  readonly url: string;
  readonly requestHeader: Headers;
  readonly responseHeader = new Headers();
  readonly responseTrailer = new Headers();
  readonly requestMethod = 'POST';
  readonly protocolName = 'grpc';

  constructor({ method, service, signal, contextValues, url, header }: AnyRequest) {
    this.method = method;
    this.service = service;
    this.signal = signal;
    this.values = contextValues;
    this.url = url;
    this.requestHeader = header;
  }

  timeoutMs(): undefined {
    return undefined;
  }
}

function headersOf(headers: IncomingHttpHeaders): Headers {
  const all = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    if (typeof value === 'string' && !name.startsWith(':')) {
      all.set(name, value);
    }
  }
  return all;
}

async function* one<T>(message: T): AsyncGenerator<T> {
  yield message;
}
