import type { OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { create, type DescMessage, toBinary } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { cancelled, type Disposable } from '../../base/index.ts';
import { answerHead, beginAnswer, cancelCode, framed, undated } from './message.ts';

/** Why the signal of a call that is over fires: made once, for without one each call makes an error with its stack. */
const callIsOver = cancelled();

/** Of messages that go to many callers, as they leave. */
const frames = new WeakMap<object, Buffer | undefined>();

/** The same message, which is encoded once for all who watch: a change in the cluster goes to hundreds. */
export function shared<T extends object>(message: T): T {
  if (!frames.has(message)) {
    frames.set(message, undefined);
  }
  return message;
}

function frameOf(value: object, output: DescMessage): Buffer {
  const known = frames.get(value);
  if (known) {
    return known;
  }
  const frame = framed(toBinary(output, create(output, value as Record<string, unknown>)));
  if (frames.has(value)) {
    frames.set(value, frame);
  }
  return frame;
}

/**
 * What is said to one caller, as fast as they read. While nothing happens it is an iterator and a promise: a function that
 * waits would hold on to all that it has ever seen.
 */
export class Answer {
  readonly #stream: ServerHttp2Stream;
  readonly #controller = new AbortController();
  #messages: AsyncIterator<unknown> | undefined;
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

  /** The only message, and the end. */
  say(message: unknown, output: DescMessage): void {
    this.#output = output;
    if (!this.#isOver) {
      this.#write(message);
      this.end();
    }
  }

  /** One message after the other, and the end after the last. */
  run(messages: AsyncIterable<unknown>, output: DescMessage): void {
    this.#messages = messages[Symbol.asyncIterator]();
    this.#output = output;
    this.#next();
  }

  /** What is not gRPC at all has a status of HTTP. */
  refuse(status: number): void {
    if (!this.#isOver) {
      this.#stream.respond({ ':status': status }, { ...undated, endStream: true });
      this.#leave();
    }
  }

  /** Any error but those of calls is a mistake of ours, and its text nobody's business. */
  readonly fail = (reason: unknown): void => {
    this.end(reason instanceof ConnectError ? reason : new ConnectError('internal error', Code.Internal));
  };

  /** The status: in trailers, or with the head where there is nothing else. The first one counts. */
  end(error?: ConnectError): void {
    const stream = this.#stream;
    if (this.#isOver) {
      return;
    }
    const status: OutgoingHttpHeaders = {
      'grpc-status': String(error?.code ?? 0),
      ...(error ? { 'grpc-message': encodeURIComponent(error.rawMessage.toWellFormed()) } : {}),
    };
    if (stream.headersSent) {
      stream.once('wantTrailers', () => stream.sendTrailers(status));
      stream.end();
    } else {
      stream.respond({ ...answerHead, ...status }, { ...undated, endStream: true });
    }
    this.#leave();
  }

  /** What the caller still says is of no interest. */
  #leave(): void {
    const stream = this.#stream;
    if (!stream.readableEnded) {
      stream.resume();
      stream.once('finish', () => stream.close(cancelCode));
    }
    this.#close();
  }

  get #isOver(): boolean {
    const { closed, destroyed, writableEnded } = this.#stream;
    return closed || destroyed || writableEnded;
  }

  #close(): void {
    void this.limit?.dispose();
    this.limit = undefined;
    this.#controller.abort(callIsOver);
    // One that waits for its reader does not hear the signal, and would hold on to what it listens to.
    const messages = this.#messages;
    this.#messages = undefined;
    messages?.return?.().catch(() => undefined);
  }

  #next(): void {
    this.#messages?.next().then(this.#take).catch(this.fail);
  }

  readonly #take = ({ done, value }: IteratorResult<unknown>): void => {
    if (done) {
      this.end();
    } else if (this.#isOver) {
      this.#close();
    } else if (this.#write(value)) {
      this.#next();
    } else {
      this.#stream.once('drain', () => this.#next());
    }
  };

  /** The head goes with the first message. Answers false when there is enough on its way. */
  #write(value: unknown): boolean {
    const frame = frameOf(value as object, this.#output as DescMessage);
    beginAnswer(this.#stream);
    return this.#stream.write(frame);
  }
}
