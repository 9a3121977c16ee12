import { deviceFailed } from '../errors.ts';
import { createDescriptorTun, type DescriptorAddon } from './descriptor.ts';
import type { TunDevice } from './device.ts';

/** What `addon/linux.c` exports. */
export interface TunAddon extends DescriptorAddon {
  open(name: string): number;
  trim(): void;
  peer(fd: number): number;
  /** Sends a text to a datagram socket, as sd_notify(3) does. Not 0 when it went. */
  notify(path: string, text: string): number;
}

/** Opens the device; it disappears with this process, however that ends. Errors: `daemon.device-failed`. */
export function openLinuxTun(addon: TunAddon, name: string): TunDevice {
  let fd: number;
  try {
    fd = addon.open(name);
  } catch (error) {
    throw deviceFailed(error);
  }
  return createDescriptorTun(addon, name, fd);
}
