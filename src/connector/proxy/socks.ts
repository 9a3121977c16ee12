import {
  concatBytes,
  formatIp,
  type IpBytes,
  malformed,
  needMore,
  type Read,
  readValue,
  viewOf,
} from '../../base/index.ts';
import type { Credentials } from './credentials.ts';
import type { Target } from './target.ts';

/** SOCKS version 5, the messages (RFC 1928), and its password method (RFC 1929). Pure. */
export const socksVersion = 5;
export const socksMethod = { none: 0, password: 2, unacceptable: 0xff } as const;
export const socksReply = {
  succeeded: 0,
  failed: 1,
  notAllowed: 2,
  networkUnreachable: 3,
  hostUnreachable: 4,
  refused: 5,
  timedOut: 6,
  commandNotSupported: 7,
  addressNotSupported: 8,
} as const;
export type SocksReply = (typeof socksReply)[keyof typeof socksReply];

export type SocksCommand = 'connect' | 'bind' | 'associate';

export type SocksRequest =
  | { readonly command: SocksCommand; readonly target: Target }
  /** Well formed, but not for us: the reply says why. */
  | { readonly command: 'unsupported'; readonly reply: SocksReply };

const passwordVersion = 1;
const commands: Record<number, SocksCommand> = { 1: 'connect', 2: 'bind', 3: 'associate' };
const addressType = { ip4: 1, name: 3, ip6: 4 } as const;
const anyAddress = new Uint8Array(4);
const decoder = new TextDecoder('utf-8', { fatal: false });

/** The methods that the client offers. */
export function parseGreeting(bytes: Uint8Array): Read<readonly number[]> {
  if (bytes.length > 0 && bytes[0] !== socksVersion) {
    return malformed('not SOCKS version 5');
  }
  const count = bytes[1];
  if (count === undefined || bytes.length < 2 + count) {
    return needMore;
  }
  return count === 0 ? malformed('no methods') : readValue([...bytes.subarray(2, 2 + count)], 2 + count);
}

export function serializeMethod(method: number): Uint8Array {
  return Uint8Array.of(socksVersion, method);
}

export function parsePassword(bytes: Uint8Array): Read<Credentials> {
  if (bytes.length > 0 && bytes[0] !== passwordVersion) {
    return malformed('unknown version of the password method');
  }
  const userLength = bytes[1];
  const passwordLength = userLength === undefined ? undefined : bytes[2 + userLength];
  if (userLength === undefined || passwordLength === undefined || bytes.length < 3 + userLength + passwordLength) {
    return needMore;
  }
  const end = 3 + userLength + passwordLength;
  const user = decoder.decode(bytes.subarray(2, 2 + userLength));
  return readValue({ user, password: decoder.decode(bytes.subarray(3 + userLength, end)) }, end);
}

export function serializePasswordAnswer(isAccepted: boolean): Uint8Array {
  return Uint8Array.of(passwordVersion, isAccepted ? 0 : 1);
}

export function parseRequest(bytes: Uint8Array): Read<SocksRequest> {
  if (bytes.length > 0 && bytes[0] !== socksVersion) {
    return malformed('not SOCKS version 5');
  }
  if (bytes.length < 5) {
    return needMore;
  }
  if (!isAddressType(bytes[3])) {
    // The rest cannot be skipped, as its length is not known; the connection ends after the reply.
    return readValue({ command: 'unsupported', reply: socksReply.addressNotSupported }, bytes.length);
  }
  const read = parseTarget(bytes, 3);
  if (read.kind !== 'value') {
    return read;
  }
  const command = commands[bytes[1] ?? 0];
  return readValue(
    command ? { command, target: read.value } : { command: 'unsupported', reply: socksReply.commandNotSupported },
    read.bytesRead,
  );
}

/** `bound` is where the relay listens; nobody needs it for CONNECT. */
export function serializeReply(reply: SocksReply, bound: { address: IpBytes; port: number } | undefined): Uint8Array {
  const { address, port } = bound ?? { address: anyAddress, port: 0 };
  return concatBytes([Uint8Array.of(socksVersion, reply, 0), serializeAddress(address, port)]);
}

export interface SocksDatagram {
  readonly target: Target;
  /** A view into what was parsed. */
  readonly payload: Uint8Array;
}

/** Undefined for what must be dropped: fragments (RFC 1928 §7 lets us), port 0, and what is not well formed. */
export function parseDatagram(bytes: Uint8Array): SocksDatagram | undefined {
  if (bytes.length < 5 || bytes[0] !== 0 || bytes[1] !== 0 || bytes[2] !== 0) {
    return undefined;
  }
  const read = parseTarget(bytes, 3);
  return read.kind === 'value' && read.value.port > 0
    ? { target: read.value, payload: bytes.subarray(read.bytesRead) }
    : undefined;
}

export function serializeDatagram(from: IpBytes, port: number, payload: Uint8Array): Uint8Array {
  return concatBytes([new Uint8Array(3), serializeAddress(from, port), payload]);
}

const isAddressType = (type: number | undefined): boolean =>
  type === addressType.ip4 || type === addressType.ip6 || type === addressType.name;

/** Type, address and port at an offset; `bytesRead` counts from the beginning. */
function parseTarget(bytes: Uint8Array, at: number): Read<Target> {
  const type = bytes[at];
  if (!isAddressType(type)) {
    return malformed('unknown address type');
  }
  const isName = type === addressType.name;
  const length = isName ? bytes[at + 1] : type === addressType.ip4 ? 4 : 16;
  const start = at + (isName ? 2 : 1);
  if (length === undefined || bytes.length < start + length + 2) {
    return needMore;
  }
  const end = start + length;
  const body = bytes.subarray(start, end);
  const host = isName ? toName(body) : formatIp(body);
  const port = viewOf(bytes).getUint16(end);
  return host === undefined ? malformed('not a name') : readValue({ host, port }, end + 2);
}

/** Letters, digits, hyphen, underscore and dot: what a name in a cluster or a zone can be made of. */
function toName(bytes: Uint8Array): string | undefined {
  const name = decoder.decode(bytes);
  return /^[a-z0-9_:.-]{1,255}$/i.test(name) ? name : undefined;
}

function serializeAddress(address: IpBytes, port: number): Uint8Array {
  const type = address.length === 4 ? addressType.ip4 : addressType.ip6;
  return concatBytes([Uint8Array.of(type), address, Uint8Array.of(port >>> 8, port & 0xff)]);
}
