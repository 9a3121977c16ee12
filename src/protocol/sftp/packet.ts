import { ChunkList, malformed, needMore, type Read, readValue, viewOf } from '../../base/index.ts';
import { type FileAttributes, readAttributes, writeAttributes } from './attributes.ts';
import { FieldReader, FieldWriter } from './bytes.ts';

/**
 * SSH File Transfer Protocol, version 3 (draft-ietf-secsh-filexfer-02), as peers speak it: over a plain connection,
 * without SSH around it. Packets are u32 length, u8 type, and but for init and version a u32 id.
 */
export type SftpRequest =
  | { readonly type: 'init'; readonly version: number }
  | { readonly type: PathVerb; readonly id: number; readonly path: string }
  | { readonly type: HandleVerb; readonly id: number; readonly handle: Uint8Array }
  | {
      readonly type: 'open';
      readonly id: number;
      readonly path: string;
      /** `openFlag`, added up. */
      readonly flags: number;
      readonly attributes: FileAttributes;
    }
  | {
      readonly type: 'read';
      readonly id: number;
      readonly handle: Uint8Array;
      readonly offset: number;
      readonly length: number;
    }
  | {
      readonly type: 'write';
      readonly id: number;
      readonly handle: Uint8Array;
      readonly offset: number;
      readonly data: Uint8Array;
    }
  | {
      readonly type: 'setstat' | 'mkdir';
      readonly id: number;
      readonly path: string;
      readonly attributes: FileAttributes;
    }
  | {
      readonly type: 'fsetstat';
      readonly id: number;
      readonly handle: Uint8Array;
      readonly attributes: FileAttributes;
    }
  | { readonly type: 'rename'; readonly id: number; readonly from: string; readonly to: string }
  /** In the order that OpenSSH has made the custom; the draft says it the other way round. */
  | { readonly type: 'symlink'; readonly id: number; readonly target: string; readonly path: string }
  | { readonly type: 'extended'; readonly id: number; readonly name: string; readonly data: Uint8Array };

const pathVerbs = ['lstat', 'opendir', 'remove', 'rmdir', 'realpath', 'stat', 'readlink'] as const;
type PathVerb = (typeof pathVerbs)[number];
const handleVerbs = ['close', 'fstat', 'readdir'] as const;
type HandleVerb = (typeof handleVerbs)[number];

export interface NamedFile {
  readonly name: string;
  /** A line as `ls -l` writes it. */
  readonly longName: string;
  readonly attributes: FileAttributes;
}

/** What a server does beside the version, and in which version of its own. */
export interface Extension {
  readonly name: string;
  readonly version: string;
}

export type SftpResponse =
  | { readonly type: 'version'; readonly version: number; readonly extensions: readonly Extension[] }
  | { readonly type: 'status'; readonly id: number; readonly code: number; readonly message: string }
  | { readonly type: 'handle'; readonly id: number; readonly handle: Uint8Array }
  | { readonly type: 'data'; readonly id: number; readonly data: Uint8Array }
  | { readonly type: 'name'; readonly id: number; readonly files: readonly NamedFile[] }
  | { readonly type: 'attrs'; readonly id: number; readonly attributes: FileAttributes }
  | { readonly type: 'extended-reply'; readonly id: number; readonly data: Uint8Array };

export const sftpVersion = 3;
export const openFlag = { read: 1, write: 2, append: 4, create: 8, truncate: 16, exclusive: 32 } as const;
export const statusCode = {
  ok: 0,
  eof: 1,
  noSuchFile: 2,
  permissionDenied: 3,
  failure: 4,
  badMessage: 5,
  unsupported: 8,
} as const;

/** OpenSSH's limit of a packet, which all peers keep to. */
export const maxSftpPacketBytes = 256 * 1024;

const numbers = {
  ...{ init: 1, version: 2, open: 3, close: 4, read: 5, write: 6, lstat: 7, fstat: 8, setstat: 9, fsetstat: 10 },
  ...{ opendir: 11, readdir: 12, remove: 13, mkdir: 14, rmdir: 15, realpath: 16, stat: 17, rename: 18 },
  ...{ readlink: 19, symlink: 20, status: 101, handle: 102, data: 103, name: 104, attrs: 105 },
  ...{ extended: 200, 'extended-reply': 201 },
} as const satisfies Record<SftpPacket['type'], number>;
const typeOf = new Map(Object.entries(numbers).map(([type, number]) => [number, type as SftpPacket['type']]));

export type SftpPacket = SftpRequest | SftpResponse;
/** Names of one answer; a server sends about a hundred. */
const maxNames = 10_000;

export function serializeSftp(packet: SftpPacket): Uint8Array {
  const fields = new FieldWriter(packet.type === 'data' || packet.type === 'write' ? packet.data.length + 64 : 256);
  fields.u32(0).u8(numbers[packet.type]);
  if (packet.type === 'init' || packet.type === 'version') {
    fields.u32(packet.version);
  } else {
    fields.u32(packet.id);
  }
  writeBody(fields, packet);
  const { written } = fields;
  viewOf(written).setUint32(0, written.length - 4);
  return written;
}

function writeBody(fields: FieldWriter, packet: SftpPacket): void {
  switch (packet.type) {
    case 'init':
      break;
    case 'version':
      for (const { name, version } of packet.extensions) {
        fields.text(name).text(version);
      }
      break;
    case 'open':
      fields.text(packet.path).u32(packet.flags);
      writeAttributes(fields, packet.attributes);
      break;
    case 'read':
      fields.bytes(packet.handle).u64(packet.offset).u32(packet.length);
      break;
    case 'write':
      fields.bytes(packet.handle).u64(packet.offset).bytes(packet.data);
      break;
    case 'setstat':
    case 'mkdir':
      fields.text(packet.path);
      writeAttributes(fields, packet.attributes);
      break;
    case 'fsetstat':
      fields.bytes(packet.handle);
      writeAttributes(fields, packet.attributes);
      break;
    case 'rename':
      fields.text(packet.from).text(packet.to);
      break;
    case 'symlink':
      fields.text(packet.target).text(packet.path);
      break;
    case 'extended':
      fields.text(packet.name).raw(packet.data);
      break;
    case 'status':
      fields.u32(packet.code).text(packet.message).text('en');
      break;
    case 'data':
      fields.bytes(packet.data);
      break;
    case 'name':
      writeNames(fields, packet.files);
      break;
    case 'attrs':
      writeAttributes(fields, packet.attributes);
      break;
    case 'extended-reply':
      fields.raw(packet.data);
      break;
    case 'handle':
    case 'close':
    case 'fstat':
    case 'readdir':
      fields.bytes(packet.handle);
      break;
    default:
      fields.text(packet.path);
      break;
  }
}

function writeNames(fields: FieldWriter, files: readonly NamedFile[]): void {
  fields.u32(files.length);
  for (const { name, longName, attributes } of files) {
    fields.text(name).text(longName);
    writeAttributes(fields, attributes);
  }
}

/** Undefined for what is not a whole packet of a type that is known. `bytes` begins behind the length. */
export function parseSftp(bytes: Uint8Array): SftpPacket | undefined {
  const fields = new FieldReader(bytes);
  const type = typeOf.get(fields.u8());
  if (!type) {
    return undefined;
  }
  const packet = readBody(fields, type);
  // Some peers add fields to a packet, and a status may come without its text.
  return fields.isWhole ? packet : undefined;
}

function readBody(fields: FieldReader, type: SftpPacket['type']): SftpPacket {
  if (type === 'init') {
    return { type, version: fields.u32() };
  }
  if (type === 'version') {
    return { type, version: fields.u32(), extensions: readExtensions(fields) };
  }
  const id = fields.u32();
  switch (type) {
    case 'open':
      return { type, id, path: fields.text(), flags: fields.u32(), attributes: readAttributes(fields) };
    case 'read':
      return { type, id, handle: fields.bytes(), offset: fields.u64(), length: fields.u32() };
    case 'write':
      return { type, id, handle: fields.bytes(), offset: fields.u64(), data: fields.bytes() };
    case 'setstat':
    case 'mkdir':
      return { type, id, path: fields.text(), attributes: readAttributes(fields) };
    case 'fsetstat':
      return { type, id, handle: fields.bytes(), attributes: readAttributes(fields) };
    case 'rename':
      return { type, id, from: fields.text(), to: fields.text() };
    case 'symlink':
      return { type, id, target: fields.text(), path: fields.text() };
    case 'extended':
      return { type, id, name: fields.text(), data: fields.rest() };
    case 'status':
      return { type, id, code: fields.u32(), message: fields.remaining > 0 ? fields.text() : '' };
    case 'data':
      return { type, id, data: fields.bytes() };
    case 'name':
      return { type, id, files: readNames(fields) };
    case 'attrs':
      return { type, id, attributes: readAttributes(fields) };
    case 'extended-reply':
      return { type, id, data: fields.rest() };
    case 'handle':
    case 'close':
    case 'fstat':
    case 'readdir':
      return { type, id, handle: fields.bytes() };
    default:
      return { type, id, path: fields.text() };
  }
}

function readExtensions(fields: FieldReader): Extension[] {
  const extensions: Extension[] = [];
  while (fields.remaining > 0 && fields.isWhole) {
    extensions.push({ name: fields.text(), version: fields.text() });
  }
  return extensions;
}

function readNames(fields: FieldReader): NamedFile[] {
  const count = Math.min(fields.u32(), maxNames);
  const files: NamedFile[] = [];
  while (files.length < count && fields.isWhole) {
    files.push({ name: fields.text(), longName: fields.text(), attributes: readAttributes(fields) });
  }
  return files;
}

/** Cuts a byte stream into packets. Views in a packet are valid until the chunk's owner reuses it. */
export class SftpReader {
  readonly #chunks = new ChunkList();

  push(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
  }

  read(): Read<SftpPacket> {
    const header = this.#chunks.peek(4);
    if (!header) {
      return needMore;
    }
    const length = viewOf(header).getUint32(0);
    if (length === 0 || length > maxSftpPacketBytes) {
      return malformed(`a packet of ${length} bytes`);
    }
    if (this.#chunks.length < 4 + length) {
      return needMore;
    }
    this.#chunks.skip(4);
    const body = this.#chunks.take(length);
    const packet = body && parseSftp(body);
    return packet ? readValue(packet, 4 + length) : malformed('no packet of version 3');
  }
}
