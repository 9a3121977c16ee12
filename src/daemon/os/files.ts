import {
  chmodSync,
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';

/** The few files that a system wants changed. A fake prints them. */
export interface FileSystem {
  /** Names in a folder; none where there is no such folder. */
  list(folder: string): readonly string[];
  /** Undefined where there is no such file. */
  read(path: string): string | undefined;
  /** Whole or not at all; makes the folder (0755) when there is none. The file is 0644. */
  write(path: string, text: string): void;
  /** Idempotent. */
  remove(path: string): void;
}

const fileMode = 0o644;
const folderMode = 0o755;

export const realFiles: FileSystem = {
  list: (folder) => orElse(() => readdirSync(folder), []),
  read: (path) => orElse(() => readFileSync(path, 'utf8'), undefined),
  write(path, text) {
    mkdirSync(dirname(path), { recursive: true, mode: folderMode });
    // Beside the file, with its name in front: whoever removes by prefix finds what a crash left.
    const temporary = `${path}.new`;
    rmSync(temporary, { force: true });
    const file = openSync(temporary, 'wx', fileMode);
    try {
      writeSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    // Root's mask may be stricter, and the resolver that reads it is not root.
    chmodSync(temporary, fileMode);
    renameSync(temporary, path);
  },
  remove: (path) => rmSync(path, { force: true }),
};

function orElse<T, E>(work: () => T, otherwise: E): T | E {
  try {
    return work();
  } catch {
    return otherwise;
  }
}
