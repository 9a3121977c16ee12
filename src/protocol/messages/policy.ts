import * as v from 'valibot';

/** `90m`, `8h`, `1h30m`: as owners write times in the public chart. Empty: none. */
const durationPattern = /^(\d+(s|m|h|d))*$/;
const unitMs: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

export const durationSchema = v.pipe(v.string(), v.regex(durationPattern, 'is no time, as 8h or 1h30m is one'));

/** Undefined for an empty text and for what is none. */
export function parseDuration(text: string): number | undefined {
  if (text === '' || !durationPattern.test(text)) {
    return undefined;
  }
  return [...text.matchAll(/(\d+)([smhd])/g)].reduce(
    (sum, [, count = '0', unit = 's']) => sum + Number(count) * (unitMs[unit] ?? 0),
    0,
  );
}

/** A name of Kubernetes, in which `*` stands for anything. */
const pattern = v.pipe(v.string(), v.regex(/^[a-z0-9*]([-.a-z0-9*]*[a-z0-9*])?$/, 'is no name, nor one with *'));
const names = v.optional(v.array(v.pipe(v.string(), v.minLength(1))));

/**
 * What an owner decides about attachments: the option `intercept` of an installation, and the key `policy.yaml` of the config
 * map `traffic-manager`.
 */
export const interceptPolicySchema = v.strictObject({
  /** All requests of a port, without filters. The name is the public chart's. */
  allowGlobalIntercepts: v.optional(v.boolean(), true),
  allowReplace: v.optional(v.boolean(), true),
  /** Then the application gets its requests again. */
  maxDuration: v.optional(durationSchema, ''),
  /** Who may attach where; none: everybody everywhere. What a rule leaves out is everybody, or everywhere. */
  allowed: v.optional(
    v.array(
      v.strictObject({
        users: names,
        groups: names,
        namespaces: v.optional(v.array(pattern)),
        workloads: v.optional(v.array(pattern)),
      }),
    ),
    [],
  ),
});
export type InterceptPolicy = v.InferOutput<typeof interceptPolicySchema>;

/** The object in the manager's namespace by which an owner changes its mind without a restart, and its keys. */
export const configMapName = 'traffic-manager';
export const policyKey = 'policy.yaml';
export const clientConfigKey = 'client.yaml';
