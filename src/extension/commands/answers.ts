import type { PortMapping, RequestFilters } from '../../connector/index.ts';
import { filterFault, serializePathFilter } from '../../protocol/index.ts';
import type { Translate } from '../views/words.ts';

/**
 * The header that makes a request one's own when nothing else is said. Its name is ours, so that no application gives it
 * a meaning; the value is a person's, so that two people who change nothing never want the same requests. It says
 * whose a request is and proves nothing: nobody may take it for a login.
 */
export const personalHeader = 'x-nearfield-user';

/** What a person would have to write for their own requests: `x-nearfield-user=ann`. */
export function personalFilter(userName: string): string {
  // Only characters that mean nothing in a regular expression: the value is then compared as it is.
  const value = userName
    .toLowerCase()
    .replace(/[^a-z0-9_-]+/g, '-')
    .replace(/^-+|-+$/g, '');
  return `${personalHeader}=${value || 'me'}`;
}

export type Read<T> = { readonly value: T } | { readonly fault: string };

/** Reads `x-user=ann, /api, GET`: headers, paths with what is below them, and methods; all that is said must match. */
export function readFilter(text: string, t: Translate): Read<RequestFilters> {
  const headers: Record<string, string> = {};
  const paths: string[] = [];
  const methods: string[] = [];
  for (const part of partsOf(text)) {
    const header = /^([^=:\s/]+)(?:=|:\s*)(.*)$/.exec(part);
    if (part.startsWith('/')) {
      paths.push(serializePathFilter({ kind: 'prefix', value: part }));
    } else if (header) {
      headers[header[1] ?? ''] = header[2] ?? '';
    } else if (/^[A-Z]+$/.test(part)) {
      methods.push(part);
    } else {
      return { fault: t('“{0}” is neither name=value nor a path nor a method', part.slice(0, 60)) };
    }
  }
  const fault = filterFault({ headerFilters: headers, pathFilters: paths });
  if (fault) {
    return { fault };
  }
  return partsOf(text).length === 0
    ? { fault: t('Say which requests are meant, for example x-user=ann or /api') }
    : { value: { headers, paths, methods } };
}

/** Reads `3000`, `http:3000, 5353:5353/UDP`: as in launch configurations, the cluster's port stands first. */
export function readPorts(text: string, mayBeEmpty: boolean, t: Translate): Read<readonly PortMapping[]> {
  const ports: PortMapping[] = [];
  for (const part of partsOf(text)) {
    const match = /^(?:([\w-]{1,63}):)?(\d{1,5})(?:\/(tcp|udp))?$/i.exec(part);
    const local = Number(match?.[2]);
    if (!match || local < 1 || local > 65_535) {
      return { fault: t('“{0}” is no port: write 3000, or http:3000', part.slice(0, 60)) };
    }
    const [, remote, , protocol] = match;
    ports.push({
      ...(remote ? { remote } : {}),
      local,
      protocol: protocol?.toUpperCase() === 'UDP' ? 'UDP' : 'TCP',
    });
  }
  return ports.length === 0 && !mayBeEmpty
    ? { fault: t('Say which port of this machine, for example 3000') }
    : { value: ports };
}

/** As a launch configuration has it. */
export const portText = ({ remote, local, protocol }: PortMapping): string =>
  `${remote ? `${remote}:` : ''}${local}${protocol === 'UDP' ? '/UDP' : ''}`;

const partsOf = (text: string): readonly string[] =>
  text
    .split(',')
    .map((each) => each.trim())
    .filter(Boolean);
