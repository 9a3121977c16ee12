import * as v from 'valibot';
import { badLaunchAttribute } from '../errors.ts';

const portMapping = v.pipe(v.string(), v.regex(/^[\w-]{1,63}:\d{1,5}$/, 'ports are written "service port:local port"'));

/** The attribute `nearfield` in a launch configuration of any debugger. */
export const attributeSchema = v.strictObject({
  workload: v.pipe(
    v.string('workload must be a name'),
    v.regex(/^([a-z]+\/)?[a-z0-9][a-z0-9.-]{0,252}$/i, 'workload is a name or kind/name'),
  ),
  namespace: v.optional(v.pipe(v.string(), v.regex(/^[a-z0-9-]{1,63}$/, 'namespace is not a name'))),
  ports: v.optional(v.pipe(v.array(portMapping), v.maxLength(1, 'one port can be intercepted'))),
  env: v.optional(v.strictObject({ exclude: v.optional(v.array(v.string()), []) })),
  keepAlive: v.optional(v.boolean(), false),
});
export type LaunchAttribute = v.InferOutput<typeof attributeSchema>;

/** A workspace file is hostile input: read by a schema. Errors: `extension.bad-launch-attribute`. */
export function parseAttribute(value: unknown): LaunchAttribute {
  const parsed = v.safeParse(attributeSchema, value);
  if (!parsed.success) {
    throw badLaunchAttribute(parsed.issues.map(({ message }) => message).join('; '));
  }
  return parsed.output;
}

export interface PortPair {
  readonly servicePort: string | undefined;
  readonly localPort: number;
}

/**
 * Which port of the service comes to which port here: as written; else the port that the program is told to listen
 * on; else the service's own number.
 */
export function choosePorts(
  attribute: LaunchAttribute,
  launchEnvironment: unknown,
  servicePorts: readonly number[],
): PortPair {
  const [service, local] = attribute.ports?.[0]?.split(':') ?? [];
  if (service && local) {
    return { servicePort: service, localPort: Number(local) };
  }
  const told = Number((launchEnvironment as { PORT?: unknown } | undefined)?.PORT);
  const own = servicePorts[0] ?? 8080;
  return { servicePort: undefined, localPort: Number.isInteger(told) && told > 0 && told < 65_536 ? told : own };
}
