/**
 * One way in which Linux machines filter. Several may be at work at once: each is asked. A program that is missing
 * means that there is no such firewall.
 */
export interface FirewallKind {
  readonly name: string;
  /** Converges: whatever would drop a packet of the device is preceded by our rule. Cheap when nothing is to do. */
  open(device: string): Promise<void>;
  /** Removes what bears our mark for this device. Needs no memory. */
  close(device: string): Promise<void>;
}

/** The mark on all that we put into firewalls of others. */
export const firewallMark = (device: string): string => `nearfield ${device}`;

/** Targets and verdicts after which a packet is still alive, or accepted. */
const harmless = new Set(
  'ACCEPT RETURN LOG NFLOG ULOG MARK CONNMARK SECMARK CONNSECMARK CT NOTRACK TCPMSS DSCP TOS TTL HL AUDIT SET TRACE'
    .split(' ')
    .flatMap((each) => [each, each.toLowerCase()]),
);

/** Whether a target of iptables can end a packet, or leads to where that may happen. */
export const mayDrop = (target: string): boolean => !harmless.has(target);

/** True for chains that hold packets back: only these get a rule. */
export function isOpenable(hook: string, policy: string, rulesMayDrop: boolean): boolean {
  // Before routing, rules single out what is forged or banned, and our packets are neither. Only a policy stops them.
  return hook === 'input' ? policy === 'drop' || rulesMayDrop : hook === 'prerouting' && policy === 'drop';
}
