import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PacketView } from '../../../src/daemon/packet/view.ts';
import { segment } from './packets.ts';

const verdictOf = (destination: string): string => {
  const source = destination.includes(':') ? 'fd00::1' : '10.0.0.1';
  const packet = segment({ source, sourcePort: 1, destination, destinationPort: 2 });
  return new PacketView().parse(packet, 0, packet.length);
};

for (const destination of ['224.0.0.251', '239.255.255.250', '255.255.255.255', 'ff02::fb']) {
  test(`a packet to ${destination} is for many, and for no connection`, () => {
    assert.equal(verdictOf(destination), 'multicast');
  });
}

for (const destination of ['10.1.2.3', '223.255.255.255', '246.246.0.1', '255.255.255.254', 'fd00::2']) {
  test(`a packet to ${destination} is for one machine`, () => {
    assert.equal(verdictOf(destination), 'ok');
  });
}
