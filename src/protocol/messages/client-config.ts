import * as v from 'valibot';
import { parseDuration } from './policy.ts';

const texts = v.optional(v.array(v.string()));
/** `4s`, or a number of seconds. */
const duration = v.optional(v.union([v.pipe(v.string(), v.regex(/^(\d+(ms|s|m|h))+$/)), v.number()]));

/**
 * What an owner wishes of every client: the option `client` of an installation, the answer to GetClientConfig. Keys are those
 * of the public client's own configuration; what we do not know is passed on, for clients that do.
 */
export const clientConfigSchema = v.looseObject({
  dns: v.optional(
    v.looseObject({
      includeSuffixes: texts,
      excludeSuffixes: texts,
      excludes: texts,
      mappings: v.optional(v.array(v.looseObject({ name: v.string(), aliasFor: v.string() }))),
      lookupTimeout: duration,
    }),
  ),
  routing: v.optional(
    v.looseObject({
      alsoProxySubnets: texts,
      neverProxySubnets: texts,
      allowConflictingSubnets: texts,
      virtualSubnet: v.optional(v.string()),
      autoResolveConflicts: v.optional(v.boolean()),
    }),
  ),
  cluster: v.optional(v.looseObject({ mappedNamespaces: texts })),
});
export type ClientConfig = v.InferOutput<typeof clientConfigSchema>;

/** Milliseconds. */
export function parseConfigDuration(value: string | number | undefined): number | undefined {
  if (typeof value === 'number') {
    return value * 1_000;
  }
  const [, milliseconds] = /^(\d+)ms$/.exec(value ?? '') ?? [];
  return milliseconds === undefined ? parseDuration(value ?? '') : Number(milliseconds);
}
