import { constants } from 'node:fs';
import {
  type FileHandle,
  lstat,
  mkdir,
  open,
  opendir,
  readlink,
  rename,
  rmdir,
  statfs,
  symlink,
  unlink,
} from 'node:fs/promises';
import { join } from 'node:path';
import {
  FieldReader,
  FieldWriter,
  type FileAttributes,
  openFlag,
  type SftpRequest,
  type SftpResponse,
  sftpVersion,
} from '../../protocol/index.ts';
import { badFileRequest } from '../errors.ts';
import { attributesOf, endOfFile, failureAnswer, namedFile, ok, unsupported } from './answer.ts';
import { Handles } from './handles.ts';
import { normalize, type Place, type Places } from './place.ts';

/** OpenSSH's clients ask for 32 KiB, sshfs for 64. */
const maxReadBytes = 128 * 1024;
const filesPerAnswer = 100;
const virtualDirectory: FileAttributes = { size: 0, mode: 0o040_555 };
const extensions = [
  { name: 'posix-rename@openssh.com', version: '1' },
  { name: 'statvfs@openssh.com', version: '2' },
  { name: 'fsync@openssh.com', version: '1' },
];

type Request<T extends SftpRequest['type']> = SftpRequest & { readonly type: T };

/** One client's conversation: each request gets one answer, and none throws. */
export class FileSession {
  readonly #places: Places;
  readonly #handles = new Handles();

  constructor(places: Places) {
    this.#places = places;
  }

  async answer(request: SftpRequest): Promise<SftpResponse> {
    if (request.type === 'init') {
      return { type: 'version', version: sftpVersion, extensions };
    }
    try {
      return await this.#answer(request);
    } catch (error) {
      return failureAnswer(request.id, error);
    }
  }

  /** Closes what the client has left open. */
  close(): Promise<void> {
    return this.#handles.closeAll();
  }

  async #answer(request: Exclude<SftpRequest, { readonly type: 'init' }>): Promise<SftpResponse> {
    const { id } = request;
    switch (request.type) {
      case 'open':
        return { type: 'handle', id, handle: await this.#open(request) };
      case 'opendir':
        return { type: 'handle', id, handle: await this.#openDirectory(request.path) };
      case 'close':
        return this.#done(id, this.#handles.close(request.handle));
      case 'read':
        return this.#read(request);
      case 'write':
        return this.#done(id, writeAll(this.#handles.file(request.handle), request.data, request.offset));
      case 'readdir':
        return this.#list(id, request.handle);
      case 'stat':
      case 'lstat':
        return { type: 'attrs', id, attributes: await this.#attributes(request.path, request.type === 'stat') };
      case 'fstat':
        return { type: 'attrs', id, attributes: attributesOf(await this.#handles.file(request.handle).stat()) };
      case 'setstat':
        return this.#done(id, this.#setAttributes(request.path, request.attributes));
      case 'fsetstat':
        return this.#done(id, change(this.#handles.file(request.handle), request.attributes));
      case 'realpath':
        return { type: 'name', id, files: [namedFile(normalize(request.path), {})] };
      case 'readlink':
        return { type: 'name', id, files: [namedFile(await this.#at(request.path, ({ path }) => readlink(path)), {})] };
      case 'extended':
        return this.#extended(request);
      case 'rename':
        return this.#done(id, this.#rename(request.from, request.to, { replaces: false }));
      case 'remove':
        return this.#done(
          id,
          this.#atWritable(request.path, ({ path }) => unlink(path)),
        );
      case 'rmdir':
        return this.#done(
          id,
          this.#atWritable(request.path, ({ path }) => rmdir(path)),
        );
      case 'mkdir': {
        const mode = (request.attributes.mode ?? 0o777) & 0o777;
        return this.#done(
          id,
          this.#atWritable<unknown>(request.path, ({ path }) => mkdir(path, mode)),
        );
      }
      case 'symlink':
        return this.#done(
          id,
          this.#atWritable(request.path, ({ path }) => symlink(request.target, path)),
        );
    }
  }

  async #done(id: number, work: Promise<unknown>): Promise<SftpResponse> {
    await work;
    return ok(id);
  }

  async #open({ path, flags, attributes }: Request<'open'>): Promise<Uint8Array> {
    const isForWriting = (flags & (openFlag.write | openFlag.append | openFlag.create | openFlag.truncate)) !== 0;
    const place = await (isForWriting ? this.#places.findWritable : this.#places.find).call(this.#places, path, {
      follow: true,
    });
    try {
      const file = await open(place.path, systemFlags(flags), (attributes.mode ?? 0o666) & 0o777);
      if (!(await file.stat()).isFile()) {
        await file.close();
        throw badFileRequest('only files can be opened');
      }
      return await this.#handles.add({ kind: 'file', file });
    } finally {
      await place.close();
    }
  }

  async #openDirectory(path: string): Promise<Uint8Array> {
    const virtual = this.#places.virtual(path);
    if (virtual) {
      return await this.#handles.add({
        kind: 'directory',
        directory: undefined,
        place: undefined,
        names: virtual.names,
      });
    }
    // The directory itself is held, and its files are looked at there.
    const place = await this.#places.find(path, { follow: true });
    try {
      const held = await open(place.path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
      const inside = { path: `/proc/self/fd/${held.fd}`, isReadOnly: place.isReadOnly, close: () => held.close() };
      const directory = await opendir(`${inside.path}/.`, { bufferSize: filesPerAnswer }).catch(async (error) => {
        await held.close();
        throw error;
      });
      return await this.#handles.add({ kind: 'directory', directory, place: inside, names: [] });
    } finally {
      await place.close();
    }
  }

  async #read({ id, handle, offset, length }: Request<'read'>): Promise<SftpResponse> {
    const buffer = Buffer.allocUnsafe(Math.min(length, maxReadBytes));
    const { bytesRead } = await this.#handles.file(handle).read(buffer, 0, buffer.length, offset);
    return bytesRead === 0 && length > 0 ? endOfFile(id) : { type: 'data', id, data: buffer.subarray(0, bytesRead) };
  }

  async #list(id: number, handle: Uint8Array): Promise<SftpResponse> {
    const opened = this.#handles.directory(handle);
    if (!opened.directory) {
      const files = opened.names.map((name) => namedFile(name, virtualDirectory));
      opened.names = [];
      return files.length === 0 ? endOfFile(id) : { type: 'name', id, files };
    }
    const files = [];
    while (files.length < filesPerAnswer) {
      const entry = await opened.directory.read();
      if (!entry) {
        break;
      }
      // It may be gone by now.
      const stats = await lstat(join(opened.place?.path ?? '', entry.name)).catch(() => undefined);
      files.push(namedFile(entry.name, stats ? attributesOf(stats) : {}));
    }
    return files.length === 0 ? endOfFile(id) : { type: 'name', id, files };
  }

  async #attributes(path: string, follow: boolean): Promise<FileAttributes> {
    return this.#places.virtual(path)
      ? virtualDirectory
      : attributesOf(await this.#at(path, (place) => lstat(place.path), follow));
  }

  async #setAttributes(path: string, attributes: FileAttributes): Promise<void> {
    await this.#atWritable(
      path,
      async (place) => {
        const access = attributes.size === undefined ? constants.O_RDONLY : constants.O_WRONLY;
        const file = await open(place.path, access | constants.O_NOFOLLOW | constants.O_NONBLOCK);
        await change(file, attributes).finally(() => file.close());
      },
      true,
    );
  }

  async #rename(from: string, to: string, { replaces }: { readonly replaces: boolean }): Promise<void> {
    await this.#atWritable(from, (source) =>
      this.#atWritable(to, async (target) => {
        const isTaken = await lstat(target.path).then(
          () => true,
          () => false,
        );
        if (isTaken && !replaces) {
          throw badFileRequest('there is such a file already');
        }
        await rename(source.path, target.path);
      }),
    );
  }

  async #extended({ id, name, data }: Request<'extended'>): Promise<SftpResponse> {
    const fields = new FieldReader(data);
    switch (name) {
      case 'posix-rename@openssh.com':
        return this.#done(id, this.#rename(fields.text(), fields.text(), { replaces: true }));
      case 'fsync@openssh.com':
        return this.#done(id, this.#handles.file(fields.bytes()).sync());
      case 'statvfs@openssh.com':
        return { type: 'extended-reply', id, data: await this.#space(fields.text()) };
      default:
        return unsupported(id);
    }
  }

  /** PROTOCOL of OpenSSH §4.4. */
  async #space(path: string): Promise<Uint8Array> {
    const { bsize, blocks, bfree, bavail, files, ffree } = await this.#at(path, (place) => statfs(place.path), true);
    const fields = [bsize, bsize, blocks, bfree, bavail, files, ffree, ffree, 0, 0, 255];
    return fields.reduce((writer, each) => writer.u64(each), new FieldWriter()).written;
  }

  async #at<T>(path: string, work: (place: Place) => Promise<T>, follow = false): Promise<T> {
    const place = await this.#places.find(path, { follow });
    return await work(place).finally(() => place.close());
  }

  async #atWritable<T>(path: string, work: (place: Place) => Promise<T>, follow = false): Promise<T> {
    const place = await this.#places.findWritable(path, { follow });
    return await work(place).finally(() => place.close());
  }
}

/** Never through a link, and never waiting for the other end of a pipe. */
function systemFlags(flags: number): number {
  const has = (flag: number): boolean => (flags & flag) !== 0;
  const access = !has(openFlag.write | openFlag.append)
    ? constants.O_RDONLY
    : has(openFlag.read)
      ? constants.O_RDWR
      : constants.O_WRONLY;
  return (
    access |
    (has(openFlag.append) ? constants.O_APPEND : 0) |
    (has(openFlag.create) ? constants.O_CREAT : 0) |
    (has(openFlag.truncate) ? constants.O_TRUNC : 0) |
    (has(openFlag.exclusive) ? constants.O_EXCL : 0) |
    constants.O_NOFOLLOW |
    constants.O_NONBLOCK |
    constants.O_NOCTTY
  );
}

async function writeAll(file: FileHandle, data: Uint8Array, offset: number): Promise<void> {
  for (let at = 0; at < data.length; ) {
    const { bytesWritten } = await file.write(data, at, data.length - at, offset + at);
    at += bytesWritten;
  }
}

async function change(file: FileHandle, { size, owner, mode, times }: FileAttributes): Promise<void> {
  if (size !== undefined) {
    await file.truncate(size);
  }
  if (mode !== undefined) {
    await file.chmod(mode & 0o7777);
  }
  if (owner) {
    await file.chown(owner.uid, owner.gid);
  }
  if (times) {
    await file.utimes(times.accessedS, times.modifiedS);
  }
}
