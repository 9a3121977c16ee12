import assert from 'node:assert/strict';
import { PacketView } from '../../../src/daemon/packet/view.ts';
import { datagram, ip, segment } from '../../unit/daemon/packets.ts';
import type { Target } from '../target.ts';

const v4 = { source: '10.100.0.0', sourcePort: 1, destination: '10.100.3.4', destinationPort: 80 };
const v6 = { source: 'fd00::', sourcePort: 1, destination: 'fd00::9', destinationPort: 80 };
const toEnds = ({ source, destination, ...ports }: typeof v4) => ({
  ...ports,
  source: ip(source),
  destination: ip(destination),
});

export const packetSeeds: readonly Uint8Array[] = [
  segment(v4),
  segment({ ...v6, payload: 'hello' }),
  datagram(
    toEnds(v4),
    Uint8Array.from({ length: 40 }, (_, index) => index),
  ),
  datagram(toEnds(v6), new Uint8Array(12)),
  // IPv6 with hop-by-hop options, destination options and a fragment header.
  Uint8Array.from([
    ...[0x60, 0, 0, 0, 0, 40, 0, 64, ...ip('fd00::'), ...ip('fd00::9')],
    ...[60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 9],
    ...[0, 1, 0, 80, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
  ]),
];

/** The decoder: it never throws, and what it calls good lies within the packet. */
export function openPacketTarget(): Target {
  const view = new PacketView();
  return {
    seeds: packetSeeds,
    run(input, random) {
      const before = random.below(20);
      const buffer = new Uint8Array(before + input.length + random.below(20));
      buffer.set(input, before);
      const verdict = view.parse(buffer, before, input.length);
      if (verdict === 'ok' || verdict === 'fragment') {
        assert.equal(view.offset, before);
        assert.ok(view.length <= input.length);
        assert.ok(view.transportOffset >= before + 20);
        // A fragment may be as short as its own header.
        const least = verdict === 'ok' ? 8 : 0;
        assert.ok(view.transportOffset + least <= before + view.length, 'the transport header is not whole');
        assert.equal(view.source.length, view.addressBytes);
        assert.ok(view.destinationOffset + view.addressBytes <= view.transportOffset);
        assert.ok(view.quotable.length <= view.length);
        assert.ok(view.fragmentAt >= 0 && view.fragmentAt <= 0xffff);
      }
    },
    settle: () => undefined,
    close: () => undefined,
  };
}
