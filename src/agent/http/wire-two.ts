import type { IncomingHttpHeaders } from 'node:http2';
import type { FilteredRequest } from '../../protocol/index.ts';
import { toFiltered } from './head.ts';

/** Of one stream: a caller that streams is not held up by a round trip to a laptop, and memory stays small. */
export const windowBytes = 1024 * 1024;

/** A request of HTTP/2 as filters see it: names are in lower case on the wire. */
export function filteredFrom(headers: IncomingHttpHeaders): FilteredRequest {
  const method = String(headers[':method'] ?? '');
  return {
    ...toFiltered({ method, target: String(headers[':path'] ?? '/'), fields: new Map() }),
    header: (name) => {
      const value = name === 'host' ? (headers['host'] ?? headers[':authority']) : headers[name];
      return Array.isArray(value) ? value[0] : value;
    },
  };
}
