/** What we are, and the release of the public wire that we speak. */
export const productName = 'nearfield';
export const clientVersion = '0.1.0';
/** Reported as our version on the wire: peers decide by it what they may send. */
export const wireVersion = 'v2.24.0';

/** “OSS” first: stock clients tell of an enterprise product otherwise, with every command. */
export const managerName = 'OSS Nearfield Traffic Manager';
export const agentName = 'OSS Nearfield Traffic Agent';
/** Whether a peer is ours by the name that it gives itself; older ones of ours began with it. */
export const isOurName = (name: string): boolean => /^(OSS )?Nearfield /.test(name);

export interface Version {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
}

/** Reads `v2.24.0-rc.1`; undefined for anything that is not a version. */
export function parseVersion(text: string): Version | undefined {
  const match = /^v?(\d+)\.(\d+)\.(\d+)(?:[-+].*)?$/.exec(text);
  return match ? { major: Number(match[1]), minor: Number(match[2]), patch: Number(match[3]) } : undefined;
}
