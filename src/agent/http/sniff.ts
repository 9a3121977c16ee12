import { maxHeadBytes } from './head.ts';

/** What a connection begins with; `more` while it can be either. */
export type Sniffed = 'http1' | 'http2' | 'other' | 'more';

/** RFC 9113 §3.4. */
const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

export function sniff(bytes: Buffer): Sniffed {
  if (bytes.subarray(0, preface.length).equals(preface)) {
    return 'http2';
  }
  if (bytes.equals(preface.subarray(0, bytes.length))) {
    return 'more';
  }
  const text = bytes.toString('latin1', 0, maxHeadBytes).replace(/^(?:\r\n)+/, '');
  const lineEnd = text.indexOf('\n');
  if (lineEnd >= 0) {
    return /^[!#$%&'*+.^_`|~\dA-Za-z-]+ .* HTTP\/1\.\d\r?$/.test(text.slice(0, lineEnd)) ? 'http1' : 'other';
  }
  // A method, a space, and a target that goes on.
  if (!/^\r?$|^[!#$%&'*+.^_`|~\dA-Za-z-]{1,64}(?: [^\r]*\r?)?$/.test(text)) {
    return 'other';
  }
  return bytes.length >= maxHeadBytes ? 'http1' : 'more';
}
