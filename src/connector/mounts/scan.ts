import { posix } from 'node:path';
import { isReason, toError } from '../../base/index.ts';
import { type FileAttributes, fileKindOf, type NamedFile } from '../../protocol/index.ts';
import type { LeftOutReason } from '../contract.ts';
import type { FileClient } from './client.ts';

export interface ScannedFile {
  /** Where it is read in the pod. */
  readonly source: string;
  readonly sizeBytes: number;
  readonly isExecutable: boolean;
  /** Another one means another content. */
  readonly stamp: string;
}

export interface LeftOut {
  /** Below the volume. */
  readonly path: string;
  readonly reason: LeftOutReason;
}

/** What a volume holds, by paths below it; the empty path is a volume that is one file. */
export interface Scan {
  readonly files: ReadonlyMap<string, ScannedFile>;
  readonly folders: ReadonlySet<string>;
  readonly leftOut: readonly LeftOut[];
  readonly totalBytes: number;
  /** The kubelet writes it: a ConfigMap, a Secret, a projected or a downward volume. */
  readonly isPublished: boolean;
}

/** What is copied at most: of one volume. */
export interface ScanLimits {
  readonly totalBytes: number;
  readonly fileBytes: number;
  readonly files: number;
  readonly depth: number;
}

/** The link that the kubelet turns to a new folder whenever the content changes. */
const publishedLink = '..data';

type Reader = Pick<FileClient, 'attributes' | 'list' | 'readLink'>;

/** Looks through a volume, within the limits. Errors: those of the client, when the volume itself cannot be looked at. */
export async function scanVolume(client: Reader, path: string, limits: ScanLimits): Promise<Scan> {
  const scanner = new Scanner(client, limits);
  const attributes = await client.attributes(path, { follow: true });
  if (fileKindOf(attributes) === 'directory') {
    await scanner.folder(path, '', 0);
  } else {
    scanner.file(path, '', attributes, '');
  }
  return scanner;
}

class Scanner implements Scan {
  readonly #client: Reader;
  readonly #limits: ScanLimits;
  readonly files = new Map<string, ScannedFile>();
  readonly folders = new Set<string>();
  readonly leftOut: LeftOut[] = [];
  totalBytes = 0;
  isPublished = false;

  constructor(client: Reader, limits: ScanLimits) {
    this.#client = client;
    this.#limits = limits;
  }

  async folder(source: string, path: string, depth: number, version = ''): Promise<void> {
    if (depth > this.#limits.depth) {
      this.#leave(path, 'too-deep');
      return;
    }
    let found: readonly NamedFile[];
    try {
      found = await this.#client.list(source);
    } catch (error) {
      this.#leaveFor(path, error);
      return;
    }
    if (found.some(({ name }) => name === publishedLink)) {
      // Through the folder of this moment, so that all files are of one version.
      const target = await this.#client.readLink(`${source}/${publishedLink}`);
      if (isName(target) && !version) {
        this.isPublished ||= path === '';
        await this.folder(`${source}/${target}`, path, depth, target);
      }
      return;
    }
    if (path) {
      this.folders.add(path);
    }
    for (const each of found) {
      await this.#entry(each, source, path, depth, version);
    }
  }

  async #entry(
    { name, attributes }: NamedFile,
    folder: string,
    above: string,
    depth: number,
    version: string,
  ): Promise<void> {
    const path = posix.join(above, name);
    const source = `${folder}/${name}`;
    if (!isName(name)) {
      this.#leave(above, 'bad-name');
      return;
    }
    switch (fileKindOf(attributes)) {
      case 'directory':
        return await this.folder(source, path, depth + 1, version);
      case 'file':
        return this.file(source, path, attributes, version);
      case 'link':
        return await this.#link(source, path, version);
      default:
        return this.#leave(path, 'special');
    }
  }

  /** A folder behind a link may be any folder, also one above. */
  async #link(source: string, path: string, version: string): Promise<void> {
    try {
      const attributes = await this.#client.attributes(source, { follow: true });
      const kind = fileKindOf(attributes);
      if (kind === 'file') {
        this.file(source, path, attributes, version);
      } else {
        this.#leave(path, kind === 'directory' ? 'linked-folder' : 'special');
      }
    } catch (error) {
      this.#leaveFor(path, error);
    }
  }

  file(source: string, path: string, { size = 0, mode = 0, times }: FileAttributes, version: string): void {
    const { fileBytes, totalBytes, files } = this.#limits;
    if (size > fileBytes || this.totalBytes + size > totalBytes) {
      this.#leave(path, 'too-large');
    } else if (this.files.size >= files) {
      this.#leave(path, 'too-many');
    } else {
      this.totalBytes += size;
      const stamp = `${version} ${size} ${times?.modifiedS ?? 0}`;
      this.files.set(path, { source, sizeBytes: size, isExecutable: (mode & 0o100) !== 0, stamp });
    }
  }

  #leaveFor(path: string, error: unknown): void {
    // A lost connection says nothing about the volume.
    if (!isReason(error, 'connector.files-refused')) {
      throw error;
    }
    const { code } = toError(error);
    if (code !== 'not_found') {
      this.#leave(path, code === 'permission_denied' ? 'unreadable' : 'special');
    }
  }

  /** Enough to say what is missing. */
  #leave(path: string, reason: LeftOutReason): void {
    if (this.leftOut.length < this.#limits.files) {
      this.leftOut.push({ path, reason });
    }
  }
}

/** One name, and not a way to another place; names come from the pod. */
export const isName = (name: string): boolean =>
  name !== '' && name !== '.' && name !== '..' && !/[/\\\0]/.test(name) && Buffer.byteLength(name) <= 255;
