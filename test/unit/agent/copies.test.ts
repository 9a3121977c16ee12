import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { beforeEach, test } from 'node:test';
import { Copies } from '../../../src/agent/port/copies.ts';
import type { TakenTunnel } from '../../../src/agent/tunnel/dialled.ts';
import { silentLogger } from '../../../src/base/index.ts';
import type { TunnelHandlers } from '../../../src/protocol/transport/index.ts';
import { HandClock } from '../manager/hand-clock.ts';
import { attachment } from './pod.ts';

/** A developer's side that takes what it is told to. */
interface Side {
  readonly take: (tunnel: TakenTunnel | undefined) => void;
  handlers: TunnelHandlers | undefined;
  readonly said: string[];
  wasReset: boolean;
}

const caller = { protocol: 'tcp', address: '10.0.0.1', port: 1 } as const;
const ann = attachment('ann', 80);
let clock: HandClock;
let sides: Side[];
let changes: boolean[];
let copies: Copies;

beforeEach(() => {
  clock = new HandClock();
  sides = [];
  changes = [];
  const diverter = {
    open: () => {
      const { promise, resolve } = Promise.withResolvers<TakenTunnel | undefined>();
      sides.push({ take: resolve, handlers: undefined, said: [], wasReset: false });
      return { taken: promise, cancel: () => undefined };
    },
  };
  const deps = { diverter: diverter as never, clock, log: silentLogger };
  copies = new Copies(deps, () => changes.push(copies.isFull));
});

async function taken(side: Side | undefined): Promise<void> {
  assert.ok(side);
  const stream = {
    sendData: (bytes: Uint8Array) => {
      side.said.push(Buffer.from(bytes).toString());
      return true;
    },
    endSend: () => side.said.push('end'),
    reset: () => {
      side.wasReset = true;
    },
  };
  side.take({
    stream: stream as never,
    attach: (handlers) => {
      side.handlers = handlers;
    },
  });
  await Promise.resolve();
}

test('while too many wait for the developer’s side nothing more is copied, and then it is again', async () => {
  for (let count = 0; count < 31; count++) {
    copies.open(caller, ann);
  }
  assert.equal(copies.isFull, false);
  copies.open(caller, ann);
  assert.deepEqual(changes, [true]);
  await Promise.all(sides.slice(0, 20).map(taken));
  assert.deepEqual(changes, [true], 'it rests for a while');
  clock.advance(250);
  assert.deepEqual(changes, [true, false]);
});

test('a program that takes everything and ends nothing is not told of more', async () => {
  for (let count = 0; count < 31; count++) {
    const tap = copies.open(caller, ann);
    await taken(sides.at(-1));
    tap.end();
    assert.equal(copies.isFull, false);
  }
  copies.open(caller, ann);
  await taken(sides.at(-1));
  assert.equal(copies.isFull, true);
  clock.advance(5_000);
  assert.equal(copies.isFull, true);
  // What nobody ended is given up after ten seconds.
  clock.advance(5_000);
  assert.equal(copies.isFull, false);
  assert.ok(sides.slice(0, 31).every(({ wasReset }) => wasReset));
});

test('copies that are open and taken may be many more, within a limit', async () => {
  for (let count = 0; count < 256; count++) {
    assert.equal(copies.isFull, false);
    copies.open(caller, ann);
    await taken(sides.at(-1));
  }
  assert.equal(copies.isFull, true);
});

test('a copy that breaks off is a reset, and one that all have given up is read no more', async () => {
  const source = new PassThrough();
  copies.feed(source, caller, [ann, ann]);
  await Promise.all(sides.map(taken));
  sides[0]?.handlers?.onClose(undefined);
  assert.equal(source.destroyed, false);
  sides[1]?.handlers?.onClose(undefined);
  assert.equal(source.destroyed, true);
  const other = new PassThrough();
  copies.feed(other, caller, [ann]);
  await taken(sides[2]);
  other.destroy(new Error('cut off'));
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(sides[2]?.wasReset, true);
});
