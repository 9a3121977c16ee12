import type { Target, TargetFailure } from './target.ts';

/** Host and port as they are written: an IPv6 address in brackets. */
export const formatTarget = ({ host, port }: Target): string =>
  host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;

/** Why there is no connection, for the person who reads the program's error. */
export function sentenceOf(failure: TargetFailure, target: Target): string {
  const where = formatTarget(target);
  switch (failure) {
    case 'refused':
      return `${where} refused the connection: nothing listens there.`;
    case 'unreachable':
      return `${where} cannot be reached.`;
    case 'timeout':
      return `${where} did not answer in time.`;
    case 'prohibited':
      return `${where} must not be reached: the cluster forbids it.`;
    case 'unknown':
      return `Neither the cluster nor this machine knows the name ${target.host}.`;
    case 'failed':
      return `The cluster could not be asked for ${target.host}: the connection to it is broken.`;
  }
}

/** Reads `host:port`, the host a name, an IPv4 address or an IPv6 address in brackets. Anything else is undefined. */
export function parseTarget(text: string): Target | undefined {
  const match = /^(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9_.-]{1,255})):(\d{1,5})$/i.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  return host && port > 0 && port < 65_536 ? { host, port } : undefined;
}
