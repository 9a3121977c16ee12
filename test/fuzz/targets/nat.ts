import assert from 'node:assert/strict';
import { formatIp, parseSubnet } from '../../../src/base/index.ts';
import type { Carrier } from '../../../src/daemon/flow/carrier.ts';
import { Pipeline } from '../../../src/daemon/flow/pipeline.ts';
import { FakeShortcut, FakeTun } from '../../../src/daemon/tun/fake.ts';
import type { DialFrame, DialResult } from '../../../src/protocol/index.ts';
import { datagram, ip, segment } from '../../unit/daemon/packets.ts';
import { HandClock } from '../../unit/manager/hand-clock.ts';
import type { Random } from '../random.ts';
import type { Target } from '../target.ts';
import { packetSeeds } from './packet.ts';
import { isSound } from './packet-checks.ts';

const results: readonly DialResult[] = ['ok', 'ok', 'ok', 'refused', 'unreachable', 'timeout', 'prohibited'];
const maxAsked = 64;
/** Longer than any flow, dial, probe or fragment lives. */
const lifeMs = 150_000;

/** A valid packet of a few addresses and ports, so that flows meet. */
function wellFormed(random: Random): Uint8Array {
  const own = random.once(2) ? ['10.100.0.0', '10.100.3.'] : ['fd00::', 'fd00::'];
  const far = `${own[1]}${1 + random.below(3)}`;
  const isBack = random.once(3);
  const [source, destination] = isBack ? [own[0] ?? '', far] : [random.once(6) ? far : (own[0] ?? ''), far];
  const sourcePort = isBack ? 7_000 : 1_000 + random.below(8);
  const destinationPort = isBack ? 1_000 + random.below(8) : 80 + random.below(3);
  if (random.once(3)) {
    return datagram(
      { source: ip(source), sourcePort, destination: ip(destination), destinationPort },
      random.bytes(20),
    );
  }
  return segment({
    source,
    sourcePort,
    destination,
    destinationPort,
    flags: random.pick([2, 2, 16, 17, 4, 18, 24]),
    payload: 'x'.repeat(random.below(9)),
  });
}

/** The pipeline: no throw, right checksums out for right checksums in, and nothing left when all is over. */
export function openNatTarget(): Target {
  const device = new FakeTun(new FakeShortcut());
  const clock = new HandClock();
  const pipeline = new Pipeline({ device, clock, shortcutAfter: 2 });
  let asked: DialFrame[] = [];
  const carrier: Carrier = {
    ask: (frame) => {
      asked.push(frame);
      asked = asked.slice(-maxAsked);
      return true;
    },
    subnets: ['10.100.0.0/16', 'fd00::/16'].map((text) => parseSubnet(text) ?? assert.fail(text)),
    address4: ip('10.100.0.0'),
    port4: 7_000,
    address6: ip('fd00::'),
    port6: 7_000,
  };
  pipeline.carriers = [carrier];
  pipeline.start();
  const check = (areInputsSound: boolean): void => {
    for (const packet of device.written.splice(0)) {
      assert.ok(packet.length >= 28 && packet.length <= 65_575);
      if (areInputsSound) {
        assert.notEqual(isSound(packet), false, `a wrong checksum: ${Buffer.from(packet).toString('hex')}`);
      }
    }
  };
  const beside = (random: Random): void => {
    const frame = asked.length > 0 ? random.pick(asked) : undefined;
    const id = frame && 'id' in frame && !random.once(8) ? frame.id : random.below(0xffffffff);
    switch (random.below(4)) {
      case 0:
        pipeline.receive(carrier, { type: 'datagram', id, payload: random.bytes(random.below(80)) });
        break;
      case 1:
        pipeline.receive(carrier, { type: 'close', id });
        break;
      default:
        pipeline.receive(carrier, { type: 'answer', id, result: random.pick(results) });
    }
    pipeline.flush();
  };
  return {
    seeds: packetSeeds,
    run(input, random) {
      const isMutated = random.once(2);
      const packet = isMutated ? input : wellFormed(random);
      const isInputSound = isSound(packet) !== false;
      device.inject(packet);
      check(isInputSound);
      if (random.once(2)) {
        beside(random);
        // What is let in now may have been held with a wrong checksum.
        check(false);
      }
      if (random.once(50)) {
        clock.advance(random.below(4_000));
        check(false);
      }
      assert.ok(pipeline.flows.tcp <= 50_000 && pipeline.flows.udp <= 10_000);
      assert.ok(device.shortcut?.size === 2 * pipeline.flows.short && pipeline.flows.short <= pipeline.flows.tcp);
    },
    settle() {
      pipeline.forget(carrier);
      clock.advance(lifeMs);
      device.written.splice(0);
      assert.deepEqual(
        pipeline.flows,
        { tcp: 0, udp: 0, halfOpen: 0, short: 0 },
        `flows to ${formatIp(ip('10.100.3.1'))} remain`,
      );
    },
    close: () => pipeline.dispose(),
  };
}
