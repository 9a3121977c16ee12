import { create } from '@bufbuild/protobuf';
import type { Clock, Disposable } from '../../base/index.ts';
import { type StreamInfo, serializeConnId, wire } from '../../protocol/index.ts';
import type { TunnelHandlers, TunnelStream } from '../../protocol/transport/index.ts';
import { isOver, type Limits, whenOver } from '../state/watch.ts';

export interface WaitingStream {
  readonly stream: TunnelStream;
  readonly join: (handlers: TunnelHandlers) => void;
}

/** Requests that a client has not taken from its watch yet; a client that does not read is asked no more. */
const maxQueued = 1_000;
const joinMarginMs = 2_000;
/** Peers name their own times; none may keep a stream waiting for long. */
const maxJoinMs = 30_000;

interface Queue {
  readonly requests: wire.DialRequest[];
  wake: () => void;
}

/** Clients that listen for reverse dials, and the agents' streams that wait for them. */
export class DialWatchers {
  readonly #queues = new Map<string, Queue>();
  readonly #waiting = new Map<string, WaitingStream & { readonly timer: Disposable; readonly queue: Queue }>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  isListening(sessionId: string): boolean {
    return this.#queues.has(sessionId);
  }

  async *watch(sessionId: string, limits: Limits): AsyncGenerator<wire.DialRequest> {
    const queue: Queue = { requests: [], wake: () => undefined };
    this.#queues.set(sessionId, queue);
    // With the limits and not with the loop: that may hang on a request that nobody reads any more.
    const abort = (): void => {
      this.#leave(sessionId, queue);
      queue.wake();
    };
    const ending = whenOver(limits, abort);
    try {
      while (!isOver(limits) && this.#queues.get(sessionId) === queue) {
        const request = queue.requests.shift();
        if (request) {
          yield request;
        } else {
          await new Promise<void>((resolve) => {
            queue.wake = resolve;
          });
        }
      }
    } finally {
      void ending.dispose();
      this.#leave(sessionId, queue);
    }
  }

  /** Who was asked through this watch will not come: a caller must not wait for somebody who is gone. */
  #leave(sessionId: string, queue: Queue): void {
    if (this.#queues.get(sessionId) === queue) {
      this.#queues.delete(sessionId);
    }
    for (const [key, { stream, timer, queue: asked }] of this.#waiting) {
      if (asked === queue) {
        this.#waiting.delete(key);
        void timer.dispose();
        stream.reset();
      }
    }
  }

  /** Asks a client to open a tunnel with this connection id. Answers false when it does not listen. */
  ask(sessionId: string, info: StreamInfo, waiting: WaitingStream): boolean {
    const queue = this.#queues.get(sessionId);
    if (!queue || queue.requests.length >= maxQueued) {
      return false;
    }
    const id = serializeConnId(info.id);
    const key = keyOf(sessionId, id);
    // The same connection again: its first stream would never be fetched.
    this.take(sessionId, id)?.stream.reset();
    const limitMs = Math.min(info.dialTimeoutMs + info.roundtripLatencyMs + joinMarginMs, maxJoinMs);
    const timer = this.#clock.after(limitMs, () => {
      this.#waiting.delete(key);
      waiting.stream.reset();
    });
    this.#waiting.set(key, { ...waiting, timer, queue });
    queue.requests.push(
      create(wire.DialRequestSchema, {
        connId: id,
        roundtripLatency: BigInt(Math.round(info.roundtripLatencyMs * 1e6)),
        dialTimeout: BigInt(Math.round(info.dialTimeoutMs * 1e6)),
      }),
    );
    queue.wake();
    return true;
  }

  take(sessionId: string, id: Uint8Array): WaitingStream | undefined {
    const key = keyOf(sessionId, id);
    const waiting = this.#waiting.get(key);
    if (waiting) {
      this.#waiting.delete(key);
      void waiting.timer.dispose();
    }
    return waiting;
  }
}

function keyOf(sessionId: string, id: Uint8Array): string {
  return `${sessionId} ${Buffer.from(id).toString('hex')}`;
}
