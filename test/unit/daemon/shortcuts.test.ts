import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { parseSubnet } from '../../../src/base/index.ts';
import type { Carrier } from '../../../src/daemon/flow/carrier.ts';
import { Pipeline } from '../../../src/daemon/flow/pipeline.ts';
import { tcpFlag } from '../../../src/daemon/packet/view.ts';
import { FakeShortcut, FakeTun } from '../../../src/daemon/tun/fake.ts';
import type { DialFrame } from '../../../src/protocol/index.ts';
import { HandClock } from '../manager/hand-clock.ts';
import { describe, ip, type Segment, segment } from './packets.ts';

// Which flows the kernel rewrites by itself, and when they come to the daemon again.
const { ack, fin, rst, syn } = tcpFlag;
const outward = { source: '10.100.0.0', sourcePort: 40_000, destination: '10.100.225.66', destinationPort: 8080 };
const back = { source: '10.100.0.0', sourcePort: 7000, destination: '10.100.225.66', destinationPort: 40_000 };
const enough = 16;

let shortcut: FakeShortcut;
let device: FakeTun;
let clock: HandClock;
let pipeline: Pipeline;
let carrier: Carrier;
let asked: DialFrame[];

beforeEach(() => {
  shortcut = new FakeShortcut();
  device = new FakeTun(shortcut);
  clock = new HandClock();
  pipeline = new Pipeline({ device, clock });
  asked = [];
  carrier = {
    ask: (frame) => asked.push(frame) > 0,
    subnets: ['10.100.0.0/16', 'fd00::/16'].map((text) => parseSubnet(text) ?? assert.fail(text)),
    ...{ address4: ip('10.100.0.0'), port4: 7000, address6: ip('fd00::'), port6: 7001 },
  };
  pipeline.carriers = [carrier];
  pipeline.start();
});

const send = (ends: Segment, flags: number = ack): string[] => {
  device.inject(segment({ ...ends, flags }));
  return device.written.splice(0).map(describe);
};

/** Opens a flow, and lets so many packets of it through. */
function open(ends: Segment = outward, packets = enough): void {
  send(ends, syn);
  const dial = asked.at(-1);
  assert.ok(dial?.type === 'dial');
  pipeline.receive(carrier, { type: 'answer', id: dial.id, result: 'ok' });
  pipeline.flush();
  for (let number = 0; number < packets; number++) {
    send(ends);
  }
}

test('a short conversation is never worth the kernel’s trouble', () => {
  open(outward, enough - 1);
  assert.equal(shortcut.size, 0);
  assert.equal(pipeline.flows.short, 0);
});

for (const [whose, source] of [
  ['a program of this machine', '10.100.0.0'],
  ['a container', '172.17.0.5'],
] as const) {
  test(`what the kernel makes of the packets of ${whose} is what the daemon makes of them`, () => {
    const ends = { ...outward, source };
    open(ends, 1);
    const before = [send(ends), send(back)];
    for (let number = 0; number < enough; number++) {
      send(ends);
    }
    assert.equal(pipeline.flows.short, 1);
    assert.deepEqual([send(ends), send(back)], before);
    assert.deepEqual(before, [
      ['tcp 10.100.225.66:40000 > 10.100.0.0:7000 ack ok'],
      [`tcp 10.100.225.66:8080 > ${source}:40000 ack ok`],
    ]);
  });
}

test('the ends of a connection are the daemon’s, and after both nothing is left in the kernel', () => {
  open();
  assert.equal(shortcut.size, 2);
  assert.deepEqual(send(outward, fin | ack), ['tcp 10.100.225.66:40000 > 10.100.0.0:7000 fin+ack ok']);
  assert.equal(shortcut.size, 2, 'the other half goes on');
  send(back, fin | ack);
  assert.equal(shortcut.size, 0);
  assert.deepEqual(send(outward), ['tcp 10.100.225.66:40000 > 10.100.0.0:7000 ack ok'], 'the last one of all');
});

test('a reset leaves nothing in the kernel', () => {
  open();
  send(back, rst);
  assert.equal(shortcut.size, 0);
});

test('a flow whose stream is over comes to the daemon again, which sees when it is silent', () => {
  open();
  clock.advance(3_600_000);
  const dial = asked.find((frame) => frame.type === 'dial');
  assert.ok(dial?.type === 'dial');
  pipeline.receive(carrier, { type: 'close', id: dial.id });
  assert.equal(shortcut.size, 0);
  clock.advance(60_000);
  assert.equal(pipeline.flows.tcp, 1, 'the kernel may still deliver');
  clock.advance(140_000);
  assert.equal(pipeline.flows.tcp, 0);
});

test('of a connector that is gone nothing is left in the kernel', () => {
  open();
  open({ ...outward, sourcePort: 40_001 });
  assert.equal(shortcut.size, 4);
  pipeline.forget(carrier);
  assert.equal(shortcut.size, 0);
});

test('a flow for which the kernel has half a place has none, and goes on', () => {
  shortcut.maxEntries = 1;
  open();
  assert.equal(shortcut.size, 0);
  assert.deepEqual(send(outward), ['tcp 10.100.225.66:40000 > 10.100.0.0:7000 ack ok']);
});

test('IPv6 is the daemon’s', () => {
  open({ source: 'fd00::', sourcePort: 40_000, destination: 'fd00::7', destinationPort: 80 });
  assert.equal(shortcut.size, 0);
});
