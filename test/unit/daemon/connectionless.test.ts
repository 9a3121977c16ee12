import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSubnet } from '../../../src/base/index.ts';
import type { Carrier } from '../../../src/daemon/flow/carrier.ts';
import { Drops } from '../../../src/daemon/flow/drops.ts';
import { Fragments } from '../../../src/daemon/flow/fragments.ts';
import { maxHalfOpen, maxHalfOpenOfOne } from '../../../src/daemon/flow/gate.ts';
import { Pipeline } from '../../../src/daemon/flow/pipeline.ts';
import { complement, sumWords } from '../../../src/daemon/packet/checksum.ts';
import { PacketView } from '../../../src/daemon/packet/view.ts';
import { FakeTun } from '../../../src/daemon/tun/fake.ts';
import type { DialFrame, DialQuestion, DialResult } from '../../../src/protocol/index.ts';
import { HandClock } from '../manager/hand-clock.ts';
import { datagram, describe, ip, segment } from './packets.ts';

function setup() {
  const device = new FakeTun();
  const clock = new HandClock();
  const pipeline = new Pipeline({ device, clock });
  const carrier = (text: string, port: number) => {
    const asked: DialFrame[] = [];
    const made: Carrier = {
      ask: (frame) => {
        asked.push(frame.type === 'datagram' ? { ...frame, payload: Uint8Array.from(frame.payload) } : frame);
        return true;
      },
      subnets: [parseSubnet(text) ?? assert.fail(text), parseSubnet('fd00::/16') ?? assert.fail()],
      address4: ip(text.split('/')[0] ?? ''),
      port4: port,
      address6: ip('fd00::'),
      port6: port,
    };
    return { made, asked };
  };
  const { made, asked } = carrier('10.100.0.0/16', 7000);
  pipeline.carriers = [made];
  pipeline.start();
  const dials = (): DialQuestion[] => asked.filter((frame) => frame.type === 'dial');
  const answer = (result: DialResult, at = -1): void => {
    pipeline.receive(made, { type: 'answer', id: dials().at(at)?.id ?? 0, result });
    pipeline.flush();
  };
  const raw = (): Uint8Array[] => device.written.splice(0);
  return { device, clock, pipeline, carrier, made, asked, dials, answer, raw, written: () => raw().map(describe) };
}

const ends = { source: ip('10.100.0.0'), sourcePort: 5000, destination: ip('10.100.3.4'), destinationPort: 9001 };
const ends6 = { ...ends, source: ip('fd00::'), destination: ip('fd00::9') };

/** An IPv4 packet cut into fragments of `size` payload bytes. */
function cut(packet: Uint8Array, size: number): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let at = 20; at < packet.length; at += size) {
    const end = Math.min(packet.length, at + size);
    const piece = new Uint8Array(20 + end - at);
    piece.set(packet.subarray(0, 20));
    piece.set(packet.subarray(at, end), 20);
    const field = ((at - 20) >>> 3) | (end < packet.length ? 0x2000 : 0);
    piece.set([piece.length >>> 8, piece.length & 0xff], 2);
    piece.set([0x12, 0x34, field >>> 8, field & 0xff], 4);
    pieces.push(piece);
  }
  return pieces;
}

/** The same for IPv6, with a fragment header. */
function cut6(packet: Uint8Array, size: number): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let at = 40; at < packet.length; at += size) {
    const end = Math.min(packet.length, at + size);
    const piece = new Uint8Array(48 + end - at);
    piece.set(packet.subarray(0, 40));
    piece[6] = 44;
    piece.set([(piece.length - 40) >>> 8, (piece.length - 40) & 0xff], 4);
    const field = (at - 40) | (end < packet.length ? 1 : 0);
    piece.set([17, 0, field >>> 8, field & 0xff, 0, 0, 0x12, 0x34], 40);
    piece.set(packet.subarray(at, end), 48);
    pieces.push(piece);
  }
  return pieces;
}

const payload = Uint8Array.from({ length: 5_000 }, (_, index) => index % 251);
const datagramsOf = (asked: readonly DialFrame[]): Uint8Array[] =>
  asked.flatMap((frame) => (frame.type === 'datagram' ? [frame.payload] : []));

for (const [family, pieces] of [
  ['IPv4', cut(datagram(ends, payload), 1_480)],
  ['IPv6', cut6(datagram(ends6, payload), 1_448)],
] as const) {
  test(`a datagram in ${family} fragments arrives whole, in whatever order they come`, () => {
    const { device, asked, answer, pipeline } = setup();
    device.inject(...pieces.toReversed());
    answer('ok');
    assert.deepEqual(datagramsOf(asked), [payload]);
    assert.deepEqual(pipeline.drops, {});
  });
}

test('fragments that overlap are dropped with all of theirs', () => {
  const { device, asked, pipeline } = setup();
  const [first, second] = cut(datagram(ends, payload), 1_480);
  assert.ok(first && second);
  const overlapping = Uint8Array.from(second);
  overlapping[7] = 180;
  device.inject(first, overlapping);
  assert.deepEqual(asked, []);
  assert.deepEqual(pipeline.drops, { fragment: 2 });
});

test('a datagram of which a piece is missing is given up and counted', () => {
  const { device, clock, pipeline, asked } = setup();
  device.inject(...cut(datagram(ends, payload), 1_480).slice(1));
  clock.advance(7_000);
  assert.deepEqual(asked, []);
  assert.deepEqual(pipeline.drops, { 'fragment-timeout': 3 });
});

/** An echo request with a right checksum. */
function echo(from: string, to: string): Uint8Array {
  const isV4 = !from.includes(':');
  const body = new Uint8Array(32).fill(0x61);
  const packet = datagram({ source: ip(from), sourcePort: 0, destination: ip(to), destinationPort: 0 }, body);
  const at = isV4 ? 20 : 40;
  packet[isV4 ? 9 : 6] = isV4 ? 1 : 58;
  packet.set([isV4 ? 8 : 128, 0, 0, 0, 0, 7, 0, 1], at);
  const length = packet.length - at;
  const pseudo = isV4 ? 0 : sumWords(packet, 8, 32) + 58 + length;
  const sum = complement(sumWords(packet, at, length, pseudo));
  packet.set([sum >>> 8, sum & 0xff], at + 2);
  if (isV4) {
    packet.set([0, 0], 10);
    const header = complement(sumWords(packet, 0, 20));
    packet.set([header >>> 8, header & 0xff], 10);
  }
  return packet;
}

test('an echo is answered once the destination has refused or accepted a connection', () => {
  const { device, dials, answer, raw } = setup();
  const request = echo('10.100.0.0', '10.100.3.4');
  device.inject(request);
  assert.deepEqual(raw(), []);
  assert.equal(dials()[0]?.protocol, 'tcp');
  answer('refused');
  const [reply] = raw();
  assert.ok(reply);
  assert.equal(describe(reply), 'icmp 10.100.3.4 > 10.100.0.0 type 0 code 0');
  assert.equal(sumWords(reply, 20, reply.length - 20), 0xffff);
  assert.deepEqual(reply.subarray(24), request.subarray(24));
});

test('an echo over IPv6 is answered with a right checksum', () => {
  const { device, answer, raw } = setup();
  device.inject(echo('fd00::', 'fd00::9'));
  answer('ok');
  const [reply] = raw();
  assert.ok(reply);
  assert.equal(reply[40], 129);
  assert.equal(sumWords(reply, 40, reply.length - 40, sumWords(reply, 8, 32) + 58 + reply.length - 40), 0xffff);
});

test('the next echoes to a destination are answered at once, and it is asked again after a while', () => {
  const { device, clock, dials, answer, written } = setup();
  device.inject(echo('10.100.0.0', '10.100.3.4'));
  answer('refused');
  device.inject(echo('10.100.0.0', '10.100.3.4'));
  assert.equal(written().length, 2);
  assert.equal(dials().length, 1);
  clock.advance(11_000);
  device.inject(echo('10.100.0.0', '10.100.3.4'));
  assert.equal(dials().length, 2);
});

test('an echo to what is unreachable is answered so', () => {
  const { device, answer, written } = setup();
  device.inject(echo('10.100.0.0', '10.100.3.4'));
  answer('unreachable');
  assert.deepEqual(written(), ['icmp 10.100.3.4 > 10.100.0.0 type 3 code 1']);
});

test('a program that has closed its socket ends its flow: the system’s ICMP error says so', () => {
  const { device, asked, answer, pipeline, made, written } = setup();
  device.inject(datagram(ends, new Uint8Array(3)));
  answer('ok');
  const id = asked.find((frame) => frame.type === 'dial')?.id ?? 0;
  pipeline.receive(made, { type: 'datagram', id, payload: new Uint8Array(4) });
  pipeline.flush();
  const [back] = device.written;
  assert.ok(back);
  assert.equal(written().length, 1);
  const error = datagram({ ...ends, sourcePort: 0, destinationPort: 0 }, Uint8Array.from(back.subarray(0, 28)));
  error[9] = 1;
  error.set([3, 3, 0, 0, 0, 0, 0, 0], 20);
  device.inject(error);
  assert.deepEqual(asked.at(-1), { type: 'close', id });
  assert.equal(pipeline.flows.udp, 0);
});

test('a datagram flow that is silent for a minute is closed', () => {
  const { device, clock, asked, answer, pipeline } = setup();
  device.inject(datagram(ends, new Uint8Array(3)));
  answer('ok');
  clock.advance(62_000);
  assert.equal(pipeline.flows.udp, 0);
  assert.equal(asked.at(-1)?.type, 'close');
});

test('a datagram beyond what IP carries never reaches the device', () => {
  const { device, asked, answer, pipeline, made, written } = setup();
  device.inject(datagram(ends, new Uint8Array(3)));
  answer('ok');
  const id = asked.find((frame) => frame.type === 'dial')?.id ?? 0;
  pipeline.receive(made, { type: 'datagram', id, payload: new Uint8Array(65_508) });
  pipeline.flush();
  assert.deepEqual(written(), []);
});

test('an IPv6 datagram for a container goes in fragments that fit everywhere, and for this machine whole', () => {
  const { device, pipeline, made, answer, dials, raw } = setup();
  for (const [source, pieces] of [
    ['fd30::2', 5],
    ['fd00::', 1],
  ] as const) {
    device.inject(datagram({ ...ends6, source: ip(source) }, new Uint8Array(3)));
    answer('ok');
    pipeline.receive(made, { type: 'datagram', id: dials().at(-1)?.id ?? 0, payload });
    pipeline.flush();
    const written = raw();
    assert.equal(written.length, pieces);
    assert.ok(pieces === 1 || written.every(({ length }) => length <= 1_280));
    const expected = datagram(
      { source: ends6.destination, sourcePort: 9_001, destination: ip(source), destinationPort: 5_000 },
      payload,
    );
    const view = new PacketView();
    const fragments = new Fragments(new Drops());
    const whole =
      pieces === 1
        ? written[0]
        : written.reduce<Uint8Array | undefined>((_, each) => {
            assert.equal(view.parse(each, 0, each.length), 'fragment');
            return fragments.add(view, 0);
          }, undefined);
    assert.deepEqual(Buffer.from(whole ?? []), Buffer.from(expected));
  }
});

const syn = { source: '10.100.0.0', sourcePort: 1_000, destination: '10.100.3.4', destinationPort: 80 };

test('a flood of SYNs stops at the gate, and a dial that never ends gives its place back', () => {
  const { device, clock, dials, pipeline } = setup();
  for (let count = 0; count < maxHalfOpen + 10; count++) {
    device.inject(segment({ ...syn, sourcePort: 1_000 + count, destination: `10.100.${count >> 8}.${count & 255}` }));
  }
  assert.equal(dials().length, maxHalfOpen);
  assert.deepEqual(pipeline.drops, { 'half-open-full': 10 });
  clock.advance(22_000);
  assert.equal(pipeline.flows.halfOpen, 0);
  assert.equal(pipeline.flows.tcp, 0);
});

test('a place that never answers leaves places at the gate for others', () => {
  const { device, dials, pipeline } = setup();
  for (let count = 0; count < maxHalfOpen + 10; count++) {
    device.inject(segment({ ...syn, sourcePort: 1_000 + count }));
  }
  assert.equal(pipeline.flows.halfOpen, maxHalfOpenOfOne);
  device.inject(segment({ ...syn, sourcePort: 60_000, destinationPort: 81 }));
  assert.equal(pipeline.flows.halfOpen, maxHalfOpenOfOne + 1);
  assert.equal(dials().at(-1)?.destinationPort, 81);
});

test('when many addresses fill the gate, who has waited longest makes room, and its dial is given up', () => {
  const { device, clock, dials, asked, pipeline } = setup();
  for (let count = 0; count < maxHalfOpen; count++) {
    device.inject(segment({ ...syn, destination: `10.100.${count >> 8}.${count & 255}` }));
  }
  const live = segment({ ...syn, destination: '10.100.9.9' });
  device.inject(live);
  assert.equal(dials().length, maxHalfOpen, 'not before it had time');
  clock.advance(600);
  device.inject(live);
  assert.deepEqual(dials().at(-1)?.destination, ip('10.100.9.9'));
  assert.deepEqual(
    asked.filter((frame) => frame.type === 'close'),
    [{ type: 'close', id: dials()[0]?.id }],
  );
  assert.equal(pipeline.flows.halfOpen, maxHalfOpen);
});

test('of two windows each carries its own destinations, and answers only for its own', () => {
  const { device, pipeline, carrier, made, dials, written } = setup();
  const other = carrier('10.200.0.0/16', 7100);
  pipeline.carriers = [made, other.made];
  device.inject(segment(syn), segment({ ...syn, source: '10.200.0.0', destination: '10.200.3.4' }));
  const mine = dials()[0];
  const [theirs] = other.asked;
  assert.ok(mine && theirs?.type === 'dial');
  pipeline.receive(other.made, { type: 'answer', id: mine.id, result: 'ok' });
  pipeline.flush();
  assert.deepEqual(written(), []);
  pipeline.receive(other.made, { type: 'answer', id: theirs.id, result: 'ok' });
  pipeline.flush();
  assert.deepEqual(written(), ['tcp 10.200.3.4:1000 > 10.200.0.0:7100 syn ok']);
});

test('when a window goes, its waiting connections are refused and the other’s stay', () => {
  const { device, pipeline, carrier, made, answer, written } = setup();
  const other = carrier('10.200.0.0/16', 7100);
  pipeline.carriers = [made, other.made];
  device.inject(segment(syn), segment({ ...syn, source: '10.200.0.0', destination: '10.200.3.4' }));
  pipeline.carriers = [made];
  pipeline.forget(other.made);
  assert.deepEqual(written(), ['icmp 10.200.3.4 > 10.200.0.0 type 3 code 1']);
  answer('ok');
  assert.deepEqual(written(), ['tcp 10.100.3.4:1000 > 10.100.0.0:7000 syn ok']);
});

test('a destination that nobody carries any more is unreachable', () => {
  const { device, pipeline, written } = setup();
  device.inject(
    segment({ ...syn, destination: '10.9.9.9' }),
    datagram({ ...ends, destination: ip('10.9.9.9') }, payload),
  );
  assert.deepEqual(written(), ['icmp 10.9.9.9 > 10.100.0.0 type 3 code 1', 'icmp 10.9.9.9 > 10.100.0.0 type 3 code 1']);
  assert.deepEqual(pipeline.drops, { 'no-carrier': 2 });
});

test('an ended stream’s flow lives while the kernel may still deliver, and not for ever', () => {
  const { device, clock, dials, answer, pipeline, made } = setup();
  device.inject(segment(syn));
  answer('ok');
  pipeline.receive(made, { type: 'close', id: dials()[0]?.id ?? 0 });
  clock.advance(60_000);
  assert.equal(pipeline.flows.tcp, 1);
  clock.advance(80_000);
  assert.equal(pipeline.flows.tcp, 0);
});
