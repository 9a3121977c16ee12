import { deviceFailed } from '../errors.ts';
import { createDescriptorTun, type DescriptorAddon } from './descriptor.ts';
import type { TunDevice } from './device.ts';

/** What `addon/darwin.c` exports. */
export interface UtunAddon extends DescriptorAddon {
  /** The next free device. */
  open(): number;
  /** The name that the system gave it. */
  name(fd: number): string;
  /** The user at the other end of a unix socket; undefined when there is none. */
  peer(fd: number): number | undefined;
}

/**
 * Opens a utun device; it disappears with this process, however that ends. The system chooses the name, and there is no
 * offload: the headers that packets have for it are empty. Errors: `daemon.device-failed`.
 */
export function openDarwinTun(addon: UtunAddon): TunDevice {
  let fd = -1;
  try {
    fd = addon.open();
    return createDescriptorTun(addon, addon.name(fd), fd);
  } catch (error) {
    if (fd >= 0) {
      addon.close(fd);
    }
    throw deviceFailed(error, 'Run the daemon as root; the log has what the system said.');
  }
}
