import { totalmem } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/**
 * What passes through a relay is garbage a moment later, but its buffers count towards what makes V8 look through the
 * whole heap: five times a second at a gigabit, and a third of all work. Looking through what is young takes a
 * millisecond, and finds them. With more bytes what is on its way counts as old, and a pod needs more memory.
 */
const everyBytes = 4 * 1024 * 1024;
const pieceLength = 4 * 1024;
const bytesPerElement = 8;

let collectYoung: (() => void) | undefined;
let leftBytes = everyBytes;
/** Somebody has to hold a piece, or the compiler makes none. */
let latestPiece: readonly number[] = [];

/** So many bytes have passed. */
export function passed(bytes: number): void {
  leftBytes -= bytes;
  if (leftBytes <= 0) {
    leftBytes = everyBytes;
    collectYoung?.();
  }
}

/**
 * A whole collection, for whoever wants one. A thorough one moves what is left together and gives the pages back, and takes some times
 * as long.
 */
export type Collect = (isThorough: boolean) => void;

/**
 * For a process of our own: what relays leave behind is collected from now on. Undefined where this engine has no such
 * thing.
 */
export function collectLitter(): Collect | undefined {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  if (typeof collect !== 'function') {
    return undefined;
  }
  collectYoung = () => void collect({ type: 'minor' });
  return (isThorough) =>
    void collect({ type: 'major', execution: 'sync', flavor: isThorough ? 'last-resort' : 'regular' });
}

/**
 * The same for a guest in somebody else's process, which must set no flags: whoever fills the young generation makes V8
 * look through it. It is better small; of its size V8 fills a third before it looks.
 */
export function displaceLitter(youngGenerationMegabytes: number): void {
  const fillBytes = (youngGenerationMegabytes * 1024 * 1024) / 3;
  collectYoung = () => {
    for (let filled = 0; filled < fillBytes; filled += pieceLength * bytesPerElement) {
      latestPiece = new Array<number>(pieceLength).fill(latestPiece.length);
    }
  };
}

/** Of what the container, or the machine, lets this process have. */
const tightShare = 0.1;

/** Whether hardly anything is left of what this process may have. Files that the kernel keeps for it count as used. */
export function isMemoryTight(): boolean {
  // Without a limit the kernel names a number that no machine has.
  const limit = Math.min(process.constrainedMemory() || totalmem(), totalmem());
  return process.availableMemory() < limit * tightShare;
}
