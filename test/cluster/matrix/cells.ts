/** What can be attached to what, and why not: docs/modes.md has this table, and matrix.test.ts tries every cell. */
export const modes = ['intercept', 'filtered', 'wiretap', 'replace', 'ingest'] as const;
export type Mode = (typeof modes)[number];

export const kinds = {
  plain: 'Deployment',
  stateful: 'StatefulSet',
  replicas: 'ReplicaSet',
  alone: 'without a Service',
  pair: 'two containers and two ports',
  numeric: 'numeric target port',
  headless: 'headless Service',
  datagrams: 'UDP port',
  rpc: 'HTTP/2 and gRPC',
  sockets: 'WebSocket',
  strict: 'strict liveness probe',
  restricted: 'Pod Security `restricted`',
  budget: 'disruption budget of 0',
  three: 'three replicas',
  forbidden: 'numeric target port, Pod Security `restricted` or `baseline`',
} as const;
export type KindName = keyof typeof kinds;

const noRequest = 'no: a datagram is no request';
const noRight = 'no: nothing may redirect the port; give it a name';

/** Why a cell cannot be; undefined where it works. */
export function reasonAgainst(mode: Mode, kind: KindName): string | undefined {
  if (kind === 'datagrams' && mode === 'filtered') {
    return noRequest;
  }
  return kind === 'forbidden' && mode !== 'replace' && mode !== 'ingest' ? noRight : undefined;
}

export function printTable(cell: (mode: Mode, kind: KindName) => string): string {
  const rows = Object.entries(kinds).map(
    ([kind, title]) => `| ${title} | ${modes.map((mode) => cell(mode, kind as KindName)).join(' | ')} |`,
  );
  const shown = modes.map((mode) => (mode === 'filtered' ? mode : `\`${mode}\``));
  return [`| | ${shown.join(' | ')} |`, `|${' --- |'.repeat(modes.length + 1)}`, ...rows].join('\n');
}

/** As docs/modes.md has it. */
export const documented = (): string => printTable((mode, kind) => reasonAgainst(mode, kind) ?? 'yes');
