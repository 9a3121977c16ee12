import { homedir } from 'node:os';
import { join } from 'node:path';

export const isRoot = process.getuid?.() === 0;

/** Everything the demo writes; gone again when it ends. */
export const demoFolder =
  process.env['NEARFIELD_DEMO_STATE'] ??
  (isRoot ? '/var/lib/nearfield-demo' : join(homedir(), '.cache/nearfield-demo'));

export const at = (...parts: string[]): string => join(demoFolder, ...parts);
