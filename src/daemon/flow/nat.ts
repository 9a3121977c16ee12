import { adjust, adjustPartial } from '../packet/checksum.ts';
import type { PacketView } from '../packet/view.ts';
import type { Flow } from './table.ts';

/** From the program to the connector's listener. `partial`: the checksum field holds the pseudo header's sum only. */
export function rewriteOutward(view: PacketView, flow: Flow, partial: boolean): void {
  const { buffer, sourceOffset, destinationOffset, transportOffset } = view;
  put(buffer, sourceOffset, flow.destination);
  put(buffer, destinationOffset, flow.listener);
  setPorts(buffer, transportOffset, flow.peerPort, flow.listenerPort);
  fixSums(view, partial, flow.outwardAddressDelta, flow.outwardDelta);
}

/** From the listener to the program. */
export function rewriteBack(view: PacketView, flow: Flow, partial: boolean): void {
  const { buffer, sourceOffset, destinationOffset, transportOffset } = view;
  put(buffer, sourceOffset, flow.destination);
  put(buffer, destinationOffset, flow.source);
  setPorts(buffer, transportOffset, flow.destinationPort, flow.sourcePort);
  fixSums(view, partial, flow.backAddressDelta, flow.backDelta);
}

function put(buffer: Uint8Array, at: number, address: Uint8Array): void {
  for (let i = 0; i < address.length; i++) {
    buffer[at + i] = address[i] ?? 0;
  }
}

/** Source, then destination. */
export function setPorts(buffer: Uint8Array, at: number, source: number, destination: number): void {
  buffer[at] = source >>> 8;
  buffer[at + 1] = source & 0xff;
  buffer[at + 2] = destination >>> 8;
  buffer[at + 3] = destination & 0xff;
}

/** Swapped addresses leave sums as they are; ports do not count in an offloaded packet's field. */
function fixSums(view: PacketView, partial: boolean, addressDelta: number, fullDelta: number): void {
  const { buffer, offset, transportOffset, addressBytes } = view;
  const field = transportOffset + 16;
  if (addressDelta !== 0 && addressBytes === 4) {
    adjust(buffer, offset + 10, addressDelta);
  }
  if (!partial) {
    adjust(buffer, field, fullDelta);
  } else if (addressDelta !== 0) {
    adjustPartial(buffer, field, addressDelta);
  }
}
