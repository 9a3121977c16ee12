/** Why a packet went no further. Each is counted; the status shows the counts. */
export type DropReason =
  /** Malformed: shorter than its headers say. */
  | 'short'
  | 'version'
  | 'fragment'
  | 'fragment-timeout'
  | 'fragments-full'
  /** Neither TCP, UDP nor an echo. */
  | 'protocol'
  | 'multicast'
  /** Desktop noise that no cluster answers. */
  | 'netbios'
  /** No window carries the destination any more. */
  | 'no-carrier'
  /** The connector does not listen yet: the program's system asks again. */
  | 'no-listener'
  | 'unknown-flow'
  | 'table-full'
  | 'half-open-full'
  /** The system asks again while the dial is under way. */
  | 'retransmitted-syn'
  /** The connector, or the cluster behind it, takes less than is sent. */
  | 'connector-full'
  | 'device-full';

export class Drops {
  readonly counts: Record<string, number> = {};

  add(reason: DropReason, count = 1): void {
    this.counts[reason] = (this.counts[reason] ?? 0) + count;
  }
}
