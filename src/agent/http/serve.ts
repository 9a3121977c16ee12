import type { Socket } from 'node:net';
import type { Clock, Logger } from '../../base/index.ts';
import type { AppAddress } from '../port/app.ts';
import type { PortPlan } from '../port/diversion.ts';
import type { Caller, Diverter } from '../tunnel/diverter.ts';
import { Conversation } from './conversation.ts';
import { carry } from './exchange.ts';
import { Legs } from './leg.ts';
import { ByteReader } from './reader.ts';
import { type Sniffed, sniff } from './sniff.ts';
import { serveHttp2 } from './two.ts';

export interface ServeDeps extends AppAddress {
  /** What is attached at this moment. */
  readonly plan: () => PortPlan;
  readonly caller: Caller;
  readonly diverter: Diverter;
  readonly clock: Clock;
  readonly log: Logger;
  /** Takes the socket, with what was read put back, as it would have been taken without filters. */
  readonly passThrough: () => void;
}

/** After so long without a word from the caller, the other side may be the one that speaks first. */
const silenceMs = 1_000;
/** For the first line, which decides what a connection is. */
const sniffTimeoutMs = 10_000;

/** Reads a connection that may be HTTP, and passes it through, untouched, when it is not. */
export async function serveRequests(socket: Socket, deps: ServeDeps): Promise<void> {
  const reader = new ByteReader(socket);
  const state: { conversation?: Conversation } = {};
  const legs = new Legs(deps, () => state.conversation?.appHasGone());
  socket.once('close', (hadError) => legs.close(hadError || !socket.readableEnded));
  const kind = await sniffed(reader, deps, (hasSpoken) => listenForApp(socket, reader, deps, legs, hasSpoken));
  switch (kind) {
    case 'http1':
      state.conversation = new Conversation(socket, reader, legs, deps);
      await state.conversation.run();
      return;
    case 'http2':
      legs.close(false);
      await reader.release();
      serveHttp2(socket, deps);
      return;
    case 'other':
      legs.close(false);
      await reader.release();
      if (!socket.destroyed) {
        deps.passThrough();
      }
      return;
    case 'taken':
      return;
  }
}

/** What was read is put back. `onSilence` answers whether it has taken the connection. */
async function sniffed(
  reader: ByteReader,
  { clock }: ServeDeps,
  onSilence: (hasSpoken: () => boolean) => Promise<boolean>,
): Promise<Exclude<Sniffed, 'more'> | 'taken'> {
  let bytes: Buffer = Buffer.alloc(0);
  let isTaken: Promise<boolean> | undefined;
  let hasSpoken = false;
  const silence = clock.after(silenceMs, () => {
    isTaken = onSilence(() => hasSpoken);
  });
  let limit = silence;
  try {
    for (;;) {
      const chunk = await reader.next();
      hasSpoken = typeof chunk !== 'string';
      if (isTaken && (await isTaken)) {
        return 'taken';
      }
      void silence.dispose();
      if (typeof chunk === 'string') {
        // Too late, at an end or gone: what there is goes where everything goes.
        reader.unread(bytes);
        return 'other';
      }
      if (bytes.length === 0) {
        limit = clock.after(sniffTimeoutMs, () => reader.interrupt());
      }
      bytes = Buffer.concat([bytes, chunk]);
      const kind = sniff(bytes);
      if (kind !== 'more') {
        reader.unread(bytes);
        return kind;
      }
    }
  } finally {
    void silence.dispose();
    void limit.dispose();
  }
}

/**
 * Opens the connection that a request would take, and waits who speaks first. True: the other side did, so this is not
 * HTTP, and both are joined. False: the caller did; the connection is kept for its requests.
 */
async function listenForApp(
  socket: Socket,
  reader: ByteReader,
  deps: ServeDeps,
  legs: Legs,
  hasSpoken: () => boolean,
): Promise<boolean> {
  const { whole } = deps.plan();
  const leg = (whole && (await legs.open(whole))) ?? (await legs.open(undefined));
  if (!leg || hasSpoken() || reader.hasMore || socket.destroyed || socket.readableEnded) {
    return false;
  }
  return await new Promise<boolean>((resolve) => {
    const decide = (isTaken: boolean) => (): void => {
      socket.off('readable', caller).off('end', caller).off('close', caller);
      leg.duplex.off('readable', app).off('end', app).off('close', app);
      resolve(isTaken);
      if (isTaken) {
        // Whoever waits for the caller's first word waits no more.
        reader.interrupt();
        setImmediate(() => {
          void carry(reader, leg.duplex);
          void carry(leg.reader, socket);
        });
      }
    };
    const caller = decide(false);
    const app = decide(true);
    socket.on('readable', caller).on('end', caller).on('close', caller);
    leg.duplex.on('readable', app).on('end', app).on('close', app);
  });
}
