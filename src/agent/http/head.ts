import { malformed, needMore, type Read, readValue } from '../../base/index.ts';
import type { FilteredRequest } from '../../protocol/index.ts';

/**
 * Heads of HTTP/1 messages (RFC 9112), read strictly and never changed: what is relayed are the caller's own bytes. The
 * parser is our own because those to be had either are not open to programs (llhttp inside Node, which gives no bytes
 * back) or read leniently; a relay that reads leniently is what request smuggling lives on. The application is to
 * see every message where we see it, so whatever two readers might take differently is refused.
 */
export interface RequestHead {
  readonly method: string;
  /** As sent. */
  readonly target: string;
  readonly minor: 0 | 1;
  readonly fields: Fields;
  readonly body: BodyFraming;
  /** The caller may send another request behind this one. */
  readonly keepsAlive: boolean;
}

export interface ResponseHead {
  readonly status: number;
  readonly minor: 0 | 1;
  readonly fields: Fields;
  readonly body: BodyFraming;
  readonly keepsAlive: boolean;
}

/** Names in lower case; the values of a name in their order. */
export type Fields = ReadonlyMap<string, readonly string[]>;

export type BodyFraming =
  | { readonly kind: 'none' }
  | { readonly kind: 'length'; readonly bytes: number }
  | { readonly kind: 'chunked' }
  /** Until the connection ends: responses only. */
  | { readonly kind: 'rest' };

export const maxHeadBytes = 64 * 1024;
export const maxFields = 200;
export const tooLarge = 'the head is too large';

const token = /^[!#$%&'*+.^_`|~\dA-Za-z-]+$/;
const requestLine = /^([!#$%&'*+.^_`|~\dA-Za-z-]{1,64}) ([\x21-\x7e\x80-\xff]+) HTTP\/1\.([01])$/;
const statusLine = /^HTTP\/1\.([01]) (\d{3})(?: [\t\x20-\x7e\x80-\xff]*)?$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not stand in a value (RFC 9110 §5.5)
const forbiddenInValue = /[\x00-\x08\x0a-\x1f\x7f]/;

/** Needs the head from its first byte, in one piece. */
export function parseRequestHead(bytes: Buffer): Read<RequestHead> {
  const lines = readLines(bytes);
  if (lines.kind !== 'value') {
    return lines;
  }
  const [first = '', ...rest] = lines.value;
  const [, method = '', target = '', minorText] = requestLine.exec(first) ?? [];
  if (minorText === undefined) {
    return malformed('the request line is not one');
  }
  const fields = parseFields(rest);
  if (typeof fields === 'string') {
    return malformed(fields);
  }
  const minor = minorText === '1' ? 1 : 0;
  const hosts = fields.get('host')?.length ?? 0;
  if (hosts > 1 || (minor === 1 && hosts === 0)) {
    return malformed('there must be one Host');
  }
  const body = requestBody(fields, minor);
  return typeof body === 'string'
    ? malformed(body)
    : readValue({ method, target, minor, fields, body, keepsAlive: keepsAlive(fields, minor) }, lines.bytesRead);
}

/** `method` is that of the request: the answer to HEAD has no body, that to CONNECT is a tunnel. */
export function parseResponseHead(bytes: Buffer, method: string): Read<ResponseHead> {
  const lines = readLines(bytes);
  if (lines.kind !== 'value') {
    return lines;
  }
  const [first = '', ...rest] = lines.value;
  const [, minorText, statusText] = statusLine.exec(first) ?? [];
  if (minorText === undefined) {
    return malformed('the status line is not one');
  }
  const fields = parseFields(rest);
  if (typeof fields === 'string') {
    return malformed(fields);
  }
  const status = Number(statusText);
  const minor = minorText === '1' ? 1 : 0;
  const body = responseBody(fields, status, method);
  return typeof body === 'string'
    ? malformed(body)
    : readValue(
        { status, minor, fields, body, keepsAlive: keepsAlive(fields, minor) && body.kind !== 'rest' },
        lines.bytesRead,
      );
}

/** The lines up to the empty one, without their ends. */
function readLines(bytes: Buffer): Read<readonly string[]> {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0 ? bytes.length >= maxHeadBytes : end + 4 > maxHeadBytes) {
    return malformed(tooLarge);
  }
  const text = bytes.toString('latin1', 0, end < 0 ? bytes.length : end);
  // A lone CR or LF ends a line for some readers and for others not (RFC 9112 §2.2).
  if (/\r(?!\n|$)|(?<!\r)\n/.test(text)) {
    return malformed('a line does not end in CR LF');
  }
  const lines = text.split('\r\n');
  if (lines.length > maxFields + (end < 0 ? 2 : 1)) {
    return malformed(tooLarge);
  }
  return end < 0 ? needMore : readValue(lines, end + 4);
}

function parseFields(lines: readonly string[]): Map<string, string[]> | string {
  const fields = new Map<string, string[]>();
  for (const line of lines) {
    const colon = line.indexOf(':');
    const name = line.slice(0, Math.max(0, colon));
    // A line that begins with a space continues the last one for some (RFC 9112 §5.2); so is none of ours a name.
    if (!token.test(name)) {
      return 'a field has no name';
    }
    const value = line.slice(colon + 1).replace(/^[\t ]+|[\t ]+$/g, '');
    if (forbiddenInValue.test(value)) {
      return 'a field has a control character';
    }
    const key = name.toLowerCase();
    const values = fields.get(key);
    if (values) {
      values.push(value);
    } else {
      fields.set(key, [value]);
    }
  }
  return fields;
}

/** RFC 9112 §6.3, without the exceptions it makes for old peers. */
function requestBody(fields: Fields, minor: 0 | 1): BodyFraming | string {
  const coding = fields.get('transfer-encoding');
  const length = fields.get('content-length');
  if (coding) {
    if (length || minor === 0) {
      return 'the body has two lengths';
    }
    return isChunked(coding) ? { kind: 'chunked' } : 'the body’s coding does not end in chunked';
  }
  return length ? readLength(length) : { kind: 'none' };
}

function responseBody(fields: Fields, status: number, method: string): BodyFraming | string {
  if (status < 200 || status === 204 || status === 304 || method === 'HEAD') {
    return { kind: 'none' };
  }
  if (method === 'CONNECT' && status < 300) {
    return { kind: 'none' };
  }
  const coding = fields.get('transfer-encoding');
  const length = fields.get('content-length');
  if (coding) {
    return length ? 'the body has two lengths' : { kind: isChunked(coding) ? 'chunked' : 'rest' };
  }
  return length ? readLength(length) : { kind: 'rest' };
}

function readLength(values: readonly string[]): BodyFraming | string {
  const [value = ''] = values;
  const bytes = Number(value);
  if (values.length !== 1 || !/^\d{1,16}$/.test(value) || !Number.isSafeInteger(bytes)) {
    return 'the body’s length is no number';
  }
  return bytes === 0 ? { kind: 'none' } : { kind: 'length', bytes };
}

/** Once, and last. */
function isChunked(values: readonly string[]): boolean {
  const codings = listOf(values);
  return codings.indexOf('chunked') === codings.length - 1;
}

function keepsAlive(fields: Fields, minor: 0 | 1): boolean {
  const options = listOf(fields.get('connection') ?? []);
  return !options.includes('close') && (minor === 1 || options.includes('keep-alive'));
}

export const listOf = (values: readonly string[]): string[] =>
  values.flatMap((value) => value.split(',')).map((each) => each.trim().toLowerCase());

/** The path is that of the request's target, in whatever form (RFC 9112 §3.2). */
export function toFiltered({
  method,
  target,
  fields,
}: Pick<RequestHead, 'method' | 'target' | 'fields'>): FilteredRequest {
  const origin = target.replace(/^https?:\/\/[^/?]*/i, '');
  const path = origin.replace(/[?#].*$/s, '');
  return { method, path: path === '' ? '/' : path, header: (name) => fields.get(name)?.[0] };
}
