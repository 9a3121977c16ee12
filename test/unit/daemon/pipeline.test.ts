import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Clock, parseSubnet } from '../../../src/base/index.ts';
import type { Carrier } from '../../../src/daemon/flow/carrier.ts';
import { Pipeline } from '../../../src/daemon/flow/pipeline.ts';
import { tcpFlag } from '../../../src/daemon/packet/view.ts';
import { FakeTun } from '../../../src/daemon/tun/fake.ts';
import type { DialFrame, DialQuestion, DialResult } from '../../../src/protocol/index.ts';
import { datagram, describe, ip, segment } from './packets.ts';

const still: Clock = {
  nowMs: () => 0,
  wallMs: () => 0,
  after: () => ({ dispose: () => undefined }),
  every: () => ({ dispose: () => undefined }),
};

function setup(canTake = true) {
  const device = new FakeTun();
  const asked: DialFrame[] = [];
  const pipeline = new Pipeline({
    device,
    clock: still,
  });
  const carrier: Carrier = {
    ask: (frame) => {
      asked.push(frame);
      return canTake;
    },
    subnets: ['10.100.0.0/16', '192.168.0.0/16', 'fd00::/16'].map((text) => parseSubnet(text) ?? assert.fail(text)),
    address4: ip('10.100.0.0'),
    port4: 7000,
    address6: ip('fd00::'),
    port6: 7001,
  };
  pipeline.carriers = [carrier];
  pipeline.start();
  const question = (): DialQuestion => {
    const found = asked.find((frame) => frame.type === 'dial');
    assert.ok(found?.type === 'dial');
    return found;
  };
  const receive = (frame: DialFrame): void => {
    pipeline.receive(carrier, frame);
    pipeline.flush();
  };
  const answer = (result: DialResult): void => receive({ type: 'answer', id: question().id, result });
  return { device, asked, pipeline, receive, question, answer, written: () => device.written.splice(0).map(describe) };
}

const outward = { source: '10.100.0.0', sourcePort: 40_000, destination: '10.100.225.66', destinationPort: 8080 };

test('a SYN is held until the connector has dialled, then goes to its listener in swap form', () => {
  const { device, question, answer, written } = setup();
  device.inject(segment(outward));
  assert.deepEqual(written(), []);
  assert.equal(question().peerPort, 40_000);
  answer('ok');
  assert.deepEqual(written(), ['tcp 10.100.225.66:40000 > 10.100.0.0:7000 syn ok']);
});

test('what the listener sends comes back to the program from the real destination', () => {
  const { device, answer, written } = setup();
  device.inject(segment(outward));
  answer('ok');
  written();
  device.inject(
    segment({
      source: '10.100.0.0',
      sourcePort: 7000,
      destination: '10.100.225.66',
      destinationPort: 40_000,
      flags: tcpFlag.syn | tcpFlag.ack,
    }),
  );
  assert.deepEqual(written(), ['tcp 10.100.225.66:8080 > 10.100.0.0:40000 syn+ack ok']);
});

const failures: [DialResult, string[]][] = [
  ['refused', ['tcp 10.100.225.66:8080 > 10.100.0.0:40000 rst+ack ok']],
  ['unreachable', ['icmp 10.100.225.66 > 10.100.0.0 type 3 code 1']],
  ['prohibited', ['icmp 10.100.225.66 > 10.100.0.0 type 3 code 13']],
  ['timeout', []],
];
for (const [result, expected] of failures) {
  test(`a dial that is ${result} looks like it`, () => {
    const { device, answer, written } = setup();
    device.inject(segment(outward));
    answer(result);
    assert.deepEqual(written(), expected);
  });
}

test('a retransmitted SYN asks no second time', () => {
  const { device, asked } = setup();
  device.inject(segment(outward), segment(outward));
  assert.equal(asked.length, 1);
});

test('the same source port to two ports of a destination gets two peer ports', () => {
  const { device, asked } = setup();
  device.inject(segment(outward), segment({ ...outward, destinationPort: 9090 }));
  const ports = asked.map((frame) => (frame.type === 'dial' ? frame.peerPort : 0));
  assert.equal(ports[0], 40_000);
  assert.notEqual(ports[1], 40_000);
});

test('thousands of connections from one source port to one address find room', () => {
  const { device, asked, receive, pipeline } = setup();
  for (let port = 1; port <= 2_000; port++) {
    device.inject(segment({ ...outward, destinationPort: port }));
    const dial = asked.at(-1);
    assert.ok(dial?.type === 'dial');
    receive({ type: 'answer', id: dial.id, result: 'ok' });
  }
  const ports = new Set(asked.map((frame) => frame.type === 'dial' && frame.peerPort));
  assert.equal(ports.size, 2_000);
  assert.deepEqual(pipeline.drops, {});
});

test('a segment of a flow that nobody knows is answered by a reset', () => {
  const { device, pipeline, written } = setup();
  device.inject(segment({ ...outward, flags: tcpFlag.ack }));
  assert.deepEqual(written(), ['tcp 10.100.225.66:8080 > 10.100.0.0:40000 rst ok']);
  assert.deepEqual(pipeline.drops, { 'unknown-flow': 1 });
});

test('a foreign source, such as a container’s, is rewritten with right checksums', () => {
  const { device, answer, written } = setup();
  device.inject(segment({ ...outward, source: '172.17.0.5' }));
  answer('ok');
  assert.deepEqual(written(), ['tcp 10.100.225.66:40000 > 10.100.0.0:7000 syn ok']);
  device.inject(
    segment({
      source: '10.100.0.0',
      sourcePort: 7000,
      destination: '10.100.225.66',
      destinationPort: 40_000,
      flags: tcpFlag.ack,
    }),
  );
  assert.deepEqual(written(), ['tcp 10.100.225.66:8080 > 172.17.0.5:40000 ack ok']);
});

test('IPv6 walks the same way', () => {
  const { device, answer, written } = setup();
  device.inject(segment({ source: 'fd00::', sourcePort: 40_000, destination: 'fd00::7', destinationPort: 80 }));
  answer('ok');
  assert.equal(written()[0]?.endsWith(':7001 syn ok'), true);
});

test('a datagram waits for its dial, and its answer comes back from where it went', () => {
  const { device, asked, receive, question, answer, written } = setup();
  const ends = { source: ip('10.100.0.0'), sourcePort: 5000, destination: ip('192.168.189.9'), destinationPort: 9001 };
  device.inject(datagram(ends, new TextEncoder().encode('hello')));
  assert.equal(asked.length, 1);
  answer('ok');
  assert.deepEqual(
    asked.slice(1).map((frame) => frame.type === 'datagram' && Buffer.from(frame.payload).toString()),
    ['hello'],
  );
  receive({ type: 'datagram', id: question().id, payload: new TextEncoder().encode('hi') });
  assert.deepEqual(written(), ['udp 192.168.189.9:9001 > 10.100.0.0:5000 ok']);
});

test('a refused datagram is answered by port unreachable', () => {
  const { device, answer, written } = setup();
  const ends = { source: ip('10.100.0.0'), sourcePort: 5000, destination: ip('192.168.189.9'), destinationPort: 9001 };
  device.inject(datagram(ends, new Uint8Array(3)));
  answer('refused');
  assert.deepEqual(written(), ['icmp 192.168.189.9 > 10.100.0.0 type 3 code 3']);
});

test('a connector that cannot take more makes new flows unreachable, not hanging', () => {
  const { device, written } = setup(false);
  device.inject(segment(outward));
  assert.deepEqual(written(), ['icmp 10.100.225.66 > 10.100.0.0 type 3 code 1']);
});

test('garbage of every length is dropped and counted, and throws nothing', () => {
  const { device, pipeline } = setup();
  for (let length = 0; length < 64; length++) {
    for (const first of [0x45, 0x60, 0x00, 0x4f]) {
      device.inject(Uint8Array.from({ length }, (_, at) => (at === 0 ? first : (at * 37) & 0xff)));
    }
  }
  assert.ok(Object.values(pipeline.drops).reduce((sum, count) => sum + count, 0) > 200);
});
