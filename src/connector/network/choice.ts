import * as v from 'valibot';
import { formatSubnet, parseIp } from '../../base/index.ts';
import { desiredDnsSchema, desiredNetworkSchema } from '../../protocol/index.ts';
import type { NetworkChoice } from '../contract.ts';
import { badRequest } from '../errors.ts';
import { readSubnets } from './translation.ts';

/**
 * Addresses that nobody has (RFC 1112 §4: class E) stand in for those that are in use here already. Windows routes none
 * of them: there it is a part of a network that is not used on the internet.
 */
export const defaultVirtualSubnets: readonly string[] =
  process.platform === 'win32'
    ? ['211.55.48.0/20', 'fd6e:6561:7266::/112']
    : ['246.246.0.0/16', 'fd6e:6561:7266::/112'];

const { entries: network } = desiredNetworkSchema;
const { entries: dns } = desiredDnsSchema;

const choiceSchema = v.object({
  alsoProxy: network.subnets,
  neverProxy: network.neverProxy,
  allowConflicting: network.allowConflicting,
  virtualSubnets: network.virtualSubnets,
  mappedNamespaces: dns.routedDomains,
  includeSuffixes: dns.includeSuffixes,
  excludeSuffixes: dns.excludeSuffixes,
  excludes: dns.excludes,
  mappings: dns.mappings,
  timeoutMs: v.optional(dns.timeoutMs),
});
export type CheckedChoice = v.InferOutput<typeof choiceSchema>;

/**
 * What a person wishes of the network, checked before anything begins. An address alone is a subnet of one.
 * Errors: `connector.bad-request`, with the wish that cannot be read.
 */
export function checkChoice(choice: NetworkChoice = {}): CheckedChoice {
  const { translateConflicts, virtualSubnet, dns: names = {} } = choice;
  const virtual = virtualSubnet ? [virtualSubnet] : defaultVirtualSubnets;
  const parsed = v.safeParse(choiceSchema, {
    alsoProxy: subnets('also-proxy', choice.alsoProxy),
    neverProxy: subnets('never-proxy', choice.neverProxy),
    allowConflicting: subnets('allow-conflicting', choice.allowConflicting),
    virtualSubnets: translateConflicts ? subnets('virtual-subnet', virtual) : [],
    mappedNamespaces: choice.mappedNamespaces ?? [],
    includeSuffixes: names.includeSuffixes ?? [],
    excludeSuffixes: names.excludeSuffixes ?? [],
    excludes: names.excludes ?? [],
    mappings: names.mappings ?? [],
    ...(names.timeoutMs === undefined ? {} : { timeoutMs: names.timeoutMs }),
  });
  if (!parsed.success) {
    const [issue] = parsed.issues;
    throw badRequest(`the network's settings: ${v.getDotPath(issue) ?? ''} ${issue.message}`);
  }
  return parsed.output;
}

function subnets(what: string, texts: readonly string[] = []): string[] {
  return texts.map((text) => {
    const [subnet] = readSubnets([text.trim()]);
    if (!subnet) {
      throw badRequest(`${what}: ${text.slice(0, 60)} is no subnet, as 10.20.0.0/16 is one`);
    }
    return formatSubnet(subnet);
  });
}

/** `name=address` or `name=other.name`, as the command line spells a mapping. Errors: `connector.bad-request`. */
export function readMapping(text: string): { readonly name: string; readonly aliasFor: string } {
  const [name = '', aliasFor = '', ...rest] = text.split('=').map((each) => each.trim());
  if (!name || !aliasFor || rest.length > 0) {
    throw badRequest(`${text.slice(0, 100)} is no mapping, as db.local=db.service-a-ns is one`);
  }
  return { name, aliasFor: parseIp(aliasFor) ? aliasFor : aliasFor.replace(/\.$/, '') };
}
