import type { Duplex } from 'node:stream';
import { type Clock, type Disposable, toError, withTimeout } from '../../base/index.ts';
import {
  type FileAttributes,
  type NamedFile,
  openFlag,
  SftpReader,
  type SftpRequest,
  type SftpResponse,
  serializeSftp,
  sftpVersion,
  statusCode,
} from '../../protocol/index.ts';
import { filesLost, filesRefused } from '../errors.ts';

const answerTimeoutMs = 15_000;
const readBytes = 32 * 1024;
/** On the way at once, of one file. */
const readsAhead = 8;
/** A directory that is longer is not told to its end. */
const maxListed = 10_000;

type Unnumbered<T> = T extends { readonly id: number } ? Omit<T, 'id'> : never;

/** Reads the volumes of a pod, over a connection that it owns. Errors: `connector.files-lost`, `connector.files-refused`. */
export class FileClient implements Disposable {
  readonly #stream: Duplex;
  readonly #clock: Clock;
  readonly #waiting = new Map<
    number,
    { readonly resolve: (answer: SftpResponse) => void; readonly reject: (error: unknown) => void }
  >();
  #nextId = 0;
  #isLost = false;

  private constructor(stream: Duplex, clock: Clock) {
    this.#stream = stream;
    this.#clock = clock;
    const reader = new SftpReader();
    stream.on('error', () => undefined);
    stream.once('close', () => this.#lose());
    stream.once('end', () => this.#lose());
    stream.on('data', (chunk: Buffer) => {
      // What a packet holds is kept, and a socket may use its buffer again.
      reader.push(Uint8Array.from(chunk));
      for (let read = reader.read(); read.kind !== 'need-more'; read = reader.read()) {
        if (read.kind === 'malformed') {
          this.#lose();
          return;
        }
        this.#take(read.value as SftpResponse);
      }
    });
  }

  static async open(stream: Duplex, clock: Clock): Promise<FileClient> {
    const client = new FileClient(stream, clock);
    try {
      await client.#wait(0, { type: 'init', version: sftpVersion });
    } catch (error) {
      client.dispose();
      throw error;
    }
    return client;
  }

  get isLost(): boolean {
    return this.#isLost;
  }

  dispose(): void {
    this.#lose();
  }

  async attributes(path: string, { follow }: { readonly follow: boolean }): Promise<FileAttributes> {
    const answer = await this.#ask({ type: follow ? 'stat' : 'lstat', path });
    return answer.type === 'attrs' ? answer.attributes : refuse(answer);
  }

  async readLink(path: string): Promise<string> {
    const answer = await this.#ask({ type: 'readlink', path });
    return answer.type === 'name' ? (answer.files[0]?.name ?? '') : refuse(answer);
  }

  /** Without `.` and `..`. */
  async list(path: string): Promise<readonly NamedFile[]> {
    const opened = await this.#ask({ type: 'opendir', path });
    if (opened.type !== 'handle') {
      return refuse(opened);
    }
    const files: NamedFile[] = [];
    try {
      while (files.length < maxListed) {
        const answer = await this.#ask({ type: 'readdir', handle: opened.handle });
        if (answer.type === 'status' && answer.code === statusCode.eof) {
          break;
        }
        files.push(...(answer.type === 'name' ? answer.files : refuse(answer)));
      }
    } finally {
      this.#forget({ type: 'close', handle: opened.handle });
    }
    return files.filter(({ name }) => name !== '.' && name !== '..');
  }

  /** The first `maxBytes` of a file. */
  async read(path: string, maxBytes: number): Promise<Uint8Array> {
    const opened = await this.#ask({ type: 'open', path, flags: openFlag.read, attributes: {} });
    if (opened.type !== 'handle') {
      return refuse(opened);
    }
    const parts: Uint8Array[] = [];
    let length = 0;
    try {
      for (let isWhole = false; !isWhole && length < maxBytes; ) {
        const wanted = Array.from({ length: readsAhead }, (_, at) => length + at * readBytes).filter(
          (offset) => offset < maxBytes,
        );
        const answers = await Promise.all(
          wanted.map((offset) =>
            this.#ask({
              type: 'read',
              handle: opened.handle,
              offset,
              length: Math.min(readBytes, maxBytes - offset),
            }),
          ),
        );
        for (const [at, answer] of answers.entries()) {
          const data = answer.type === 'data' ? answer.data : isEnd(answer) ? noBytes : refuse(answer);
          if (isWhole || (wanted[at] ?? 0) !== length) {
            // A short answer: what was asked for behind it does not join it.
            break;
          }
          parts.push(data);
          length += data.length;
          isWhole = data.length === 0;
        }
      }
    } finally {
      this.#forget({ type: 'close', handle: opened.handle });
    }
    return Buffer.concat(parts);
  }

  async #ask(request: Unnumbered<SftpRequest>): Promise<SftpResponse> {
    this.#nextId = (this.#nextId + 1) % 0xffff_ffff;
    const id = this.#nextId;
    return await this.#wait(id, { ...request, id } as SftpRequest);
  }

  async #wait(id: number, request: SftpRequest): Promise<SftpResponse> {
    if (this.#isLost) {
      throw filesLost();
    }
    try {
      return await withTimeout(
        this.#clock,
        answerTimeoutMs,
        'the files of the pod',
        () =>
          new Promise<SftpResponse>((resolve, reject) => {
            this.#waiting.set(id, { resolve, reject });
            this.#stream.write(serializeSftp(request));
          }),
      );
    } catch (error) {
      // Who does not answer is not there any more: a pod that is gone says nothing.
      this.#lose();
      throw toError(error).code === 'deadline_exceeded' ? filesLost() : error;
    } finally {
      this.#waiting.delete(id);
    }
  }

  /** Nobody waits for the answer. */
  #forget(request: Unnumbered<SftpRequest>): void {
    void this.#ask(request).catch(() => undefined);
  }

  #take(answer: SftpResponse): void {
    const id = answer.type === 'version' ? 0 : answer.id;
    this.#waiting.get(id)?.resolve(answer);
  }

  #lose(): void {
    this.#isLost = true;
    this.#stream.destroy();
    for (const { reject } of this.#waiting.values()) {
      reject(filesLost());
    }
  }
}

const noBytes = new Uint8Array(0);
const isEnd = (answer: SftpResponse): boolean => answer.type === 'status' && answer.code === statusCode.eof;

function refuse(answer: SftpResponse): never {
  const code = answer.type === 'status' ? answer.code : statusCode.badMessage;
  throw filesRefused(
    code === statusCode.noSuchFile
      ? 'not_found'
      : code === statusCode.permissionDenied
        ? 'permission_denied'
        : 'unknown',
    answer.type === 'status' ? answer.message : '',
  );
}
