import type { OpenTarget } from '../target.ts';
import { openCallsTarget } from './calls.ts';
import { openControlTarget } from './control.ts';
import { openDialTarget } from './dial.ts';
import { openDnsCodecTarget, openDnsServerTarget } from './dns.ts';
import { openFlowsTarget } from './flows.ts';
import { openHttpHeadTarget } from './http-head.ts';
import { openMuxTarget } from './mux.ts';
import { openNatTarget } from './nat.ts';
import { openPacketTarget } from './packet.ts';
import { openReviewTarget } from './review.ts';
import { openSftpTarget } from './sftp.ts';
import { openSocksTarget } from './socks.ts';
import { openTunnelTarget } from './tunnel.ts';

/** Everything that reads bytes of strangers. */
export const targets: Readonly<Record<string, OpenTarget>> = {
  packet: openPacketTarget,
  nat: openNatTarget,
  flows: openFlowsTarget,
  'dns-codec': openDnsCodecTarget,
  'dns-server': openDnsServerTarget,
  dial: openDialTarget,
  control: openControlTarget,
  tunnel: openTunnelTarget,
  mux: openMuxTarget,
  socks: openSocksTarget,
  'http-head': openHttpHeadTarget,
  calls: openCallsTarget,
  review: openReviewTarget,
  sftp: openSftpTarget,
};
