import * as v from 'valibot';
import { parse } from 'yaml';
import { type Logger, toError } from '../../base/index.ts';
import { type ClientConfig, clientConfigSchema, parseConfigDuration } from '../../protocol/index.ts';
import type { NetworkChoice, SettingView } from '../contract.ts';

const maxTextLength = 262_144;

/** What the owner of the cluster wishes of every client. What cannot be read is as if nothing had been said. */
export function readClientConfig(yaml: Uint8Array, log: Logger): ClientConfig {
  try {
    const text = new TextDecoder().decode(yaml.subarray(0, maxTextLength));
    return v.parse(clientConfigSchema, parse(text, { maxAliasCount: 0 }) ?? {});
  } catch (error) {
    log.warn('the configuration that the cluster has for its clients cannot be read', { error: toError(error) });
    return {};
  }
}

type Names = NonNullable<NetworkChoice['dns']>;

/** The owner's wishes as a person's would be. Pure. */
export function toChoice({ dns, routing, cluster }: ClientConfig): NetworkChoice {
  const timeoutMs = parseConfigDuration(dns?.lookupTimeout);
  return {
    alsoProxy: routing?.alsoProxySubnets,
    neverProxy: routing?.neverProxySubnets,
    allowConflicting: routing?.allowConflictingSubnets,
    translateConflicts: routing?.autoResolveConflicts,
    virtualSubnet: routing?.virtualSubnet,
    mappedNamespaces: cluster?.mappedNamespaces,
    dns: {
      includeSuffixes: dns?.includeSuffixes,
      excludeSuffixes: dns?.excludeSuffixes,
      excludes: dns?.excludes,
      mappings: dns?.mappings,
      ...(timeoutMs ? { timeoutMs } : {}),
    },
  };
}

/** Lists of what is so as well; a person's word ends none of them. */
const added: ReadonlySet<string> = new Set([
  'alsoProxy',
  'neverProxy',
  'allowConflicting',
  'includeSuffixes',
  'excludes',
]);

/** A person's word counts more than the owner's: what they leave out is the owner's. Pure. */
export function mergeChoices(person: NetworkChoice, owner: NetworkChoice): NetworkChoice {
  return {
    ...merged({ ...person, dns: undefined }, { ...owner, dns: undefined }),
    dns: merged<Names>(person.dns ?? {}, owner.dns ?? {}),
  };
}

function merged<T extends object>(person: T, owner: T): T {
  const names = [...new Set([...Object.keys(owner), ...Object.keys(person)])] as (keyof T & string)[];
  return Object.fromEntries(
    names.map((name) => {
      const [theirs, owners] = [person[name], owner[name]];
      if (Array.isArray(theirs) && Array.isArray(owners) && added.has(name)) {
        return [name, [...new Set<unknown>([...owners, ...theirs])]];
      }
      return [name, isSaid(theirs) ? theirs : (owners ?? theirs)];
    }),
  ) as T;
}

/** A switch that is off is one that nobody has touched. */
const isSaid = (value: unknown): boolean =>
  value !== undefined && value !== '' && value !== false && !(Array.isArray(value) && value.length === 0);

/** What is in force and who said it; what nobody has said is left out. Pure. */
export function explainChoices(person: NetworkChoice, owner: NetworkChoice): SettingView[] {
  const explain = (prefix: string, theirs: object, owners: object): SettingView[] =>
    Object.keys({ ...owners, ...theirs })
      .filter((name) => name !== 'dns')
      .flatMap((name) => {
        const [mine, cluster] = [theirs, owners].map((each) => (each as Readonly<Record<string, unknown>>)[name]);
        const isAdded = added.has(name);
        return [
          ...(isSaid(mine) ? [{ name: `${prefix}.${name}`, value: toText(mine), from: 'settings' as const }] : []),
          ...(isSaid(cluster) && (isAdded || !isSaid(mine))
            ? [{ name: `${prefix}.${name}`, value: toText(cluster), from: 'cluster' as const }]
            : []),
        ];
      });
  return [...explain('network', person, owner), ...explain('dns', person.dns ?? {}, owner.dns ?? {})];
}

const toText = (value: unknown): string =>
  Array.isArray(value)
    ? value
        .map((each) =>
          typeof each === 'object' && each !== null && 'aliasFor' in each
            ? `${String((each as { name?: unknown }).name)}=${String(each.aliasFor)}`
            : String(each),
        )
        .join(' ')
    : String(value);
