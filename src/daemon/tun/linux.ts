import { deviceFailed } from '../errors.ts';
import { createDescriptorTun, type DescriptorAddon } from './descriptor.ts';
import type { Shortcut, TunDevice } from './device.ts';

/** What `addon/linux.c` exports. */
export interface TunAddon extends DescriptorAddon {
  open(name: string): number;
  trim(): void;
  peer(fd: number): number;
  /** Sends a text to a datagram socket, as sd_notify(3) does. Not 0 when it went. */
  notify(path: string, text: string): number;
  /** Descriptors of a map and of its program's place behind the device; undefined before Linux 6.6. */
  shortcut(name: string): readonly [map: number, place: number] | undefined;
  put(map: number, from: Uint8Array, to: Uint8Array): number;
  remove(map: number, from: Uint8Array): void;
}

/** Opens the device; it disappears with this process, however that ends. Errors: `daemon.device-failed`. */
export function openLinuxTun(addon: TunAddon, name: string): TunDevice {
  let fd: number;
  try {
    fd = addon.open(name);
  } catch (error) {
    throw deviceFailed(error);
  }
  const device = createDescriptorTun(addon, name, fd);
  const descriptors = addon.shortcut(name);
  return descriptors ? withShortcut(addon, device, descriptors) : device;
}

function withShortcut(addon: TunAddon, device: TunDevice, [map, place]: readonly [number, number]): TunDevice {
  const shortcut: Shortcut = {
    put: (from, to) => addon.put(map, from, to) !== 0,
    remove: (from) => addon.remove(map, from),
  };
  let isOpen = true;
  return {
    ...{ ...device, shortcut },
    close() {
      if (isOpen) {
        isOpen = false;
        addon.close(place);
        addon.close(map);
      }
      device.close();
    },
  };
}
