import type { Dir } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { viewOf } from '../../base/index.ts';
import { badFileRequest } from '../errors.ts';
import type { Place } from './place.ts';

export interface OpenFile {
  readonly kind: 'file';
  readonly file: FileHandle;
}

export interface OpenDirectory {
  readonly kind: 'directory';
  /** Undefined: what is listed is in `names` alone. */
  readonly directory: Dir | undefined;
  /** Where its files are looked at. */
  readonly place: Place | undefined;
  /** What is still to be told of a directory that only clients see. */
  names: readonly string[];
}

export type OpenThing = OpenFile | OpenDirectory;

/** Programs have a handful of files open; a mount has as many as its programs. */
export const maxHandles = 256;

/** What one client has open. */
export class Handles {
  readonly #open = new Map<number, OpenThing>();
  #next = 1;

  /** Errors: `agent.file-bad-request` when there are too many; then the thing is closed. */
  async add(thing: OpenThing): Promise<Uint8Array> {
    if (this.#open.size >= maxHandles) {
      await closeThing(thing);
      throw badFileRequest('too many files are open');
    }
    const number = this.#next++;
    this.#open.set(number, thing);
    const handle = new Uint8Array(4);
    viewOf(handle).setUint32(0, number);
    return handle;
  }

  file(handle: Uint8Array): FileHandle {
    const thing = this.#find(handle);
    if (thing.kind !== 'file') {
      throw badFileRequest('the handle is of a directory');
    }
    return thing.file;
  }

  directory(handle: Uint8Array): OpenDirectory {
    const thing = this.#find(handle);
    if (thing.kind !== 'directory') {
      throw badFileRequest('the handle is of a file');
    }
    return thing;
  }

  async close(handle: Uint8Array): Promise<void> {
    const thing = this.#find(handle);
    this.#open.delete(numberOf(handle));
    await closeThing(thing);
  }

  async closeAll(): Promise<void> {
    const all = [...this.#open.values()];
    this.#open.clear();
    await Promise.all(all.map((each) => closeThing(each).catch(() => undefined)));
  }

  #find(handle: Uint8Array): OpenThing {
    const thing = this.#open.get(numberOf(handle));
    if (!thing) {
      throw badFileRequest('there is no such handle');
    }
    return thing;
  }
}

const numberOf = (handle: Uint8Array): number => (handle.length === 4 ? viewOf(handle).getUint32(0) : 0);

async function closeThing(thing: OpenThing): Promise<void> {
  if (thing.kind === 'file') {
    await thing.file.close();
    return;
  }
  await thing.directory?.close();
  await thing.place?.close();
}
