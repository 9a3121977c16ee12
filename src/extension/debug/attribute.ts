import * as v from 'valibot';
import type {
  Attachment,
  AttachRequest,
  MountRequest,
  PodPort,
  PortMapping,
  RequestFilters,
} from '../../connector/index.ts';
import { attachModes } from '../../connector/index.ts';
import { serializePathFilter } from '../../protocol/index.ts';
import { badLaunchAttribute } from '../errors.ts';

const name = (what: string) =>
  v.optional(v.pipe(v.string(), v.regex(/^[a-z0-9][a-z0-9.-]{0,252}$/, `${what} is not a name`)));
const texts = v.optional(v.pipe(v.array(v.string()), v.maxLength(64, 'more than 64 are too many')), []);
const portMapping = v.pipe(
  v.string(),
  v.regex(/^([\w-]{1,63}:)?\d{1,5}(\/(TCP|UDP))?$/i, 'ports are written "service port:local port"'),
);
const podPort = v.union(
  [v.pipe(v.number(), v.integer()), v.pipe(v.string(), v.regex(/^\d{1,5}(\/(TCP|UDP))?$/i))],
  'toPod has ports as 9090 or "9090/UDP"',
);

/** The attribute `nearfield` in a launch configuration of any debugger. */
export const attributeSchema = v.strictObject({
  workload: v.pipe(
    v.string('workload must be a name'),
    v.regex(/^([a-z]+\/)?[a-z0-9][a-z0-9.-]{0,252}$/i, 'workload is a name or kind/name'),
  ),
  namespace: v.optional(v.pipe(v.string(), v.regex(/^[a-z0-9-]{1,63}$/, 'namespace is not a name'))),
  mode: v.optional(v.picklist(attachModes, `mode is one of ${attachModes.join(', ')}`), 'intercept'),
  service: name('service'),
  container: name('container'),
  ports: v.optional(v.pipe(v.array(portMapping), v.maxLength(64, 'more than 64 ports are too many')), []),
  headers: v.optional(v.record(v.string(), v.string()), {}),
  pathEqual: texts,
  pathPrefix: texts,
  pathRegex: texts,
  methods: texts,
  toPod: v.optional(v.array(podPort), []),
  mount: v.optional(
    v.union([v.boolean(), v.pipe(v.string(), v.minLength(1))], 'mount is true, false, or a folder, with :ro behind it'),
  ),
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

/**
 * Which port of the service comes to which port here: as written; else the port that the program is told to listen
 * on; else the service's own number. A replaced container brings all its ports, an ingest none.
 */
export function choosePorts(
  { mode, ports }: Pick<LaunchAttribute, 'mode' | 'ports'>,
  launchEnvironment: unknown,
  servicePorts: readonly number[],
): readonly PortMapping[] {
  if (ports.length > 0 || mode === 'ingest' || mode === 'replace') {
    return ports.map(readPort);
  }
  const told = Number((launchEnvironment as { PORT?: unknown } | undefined)?.PORT);
  const own = servicePorts[0] ?? 8080;
  return [{ local: Number.isInteger(told) && told > 0 && told < 65_536 ? told : own }];
}

/** Reads `http:3000`, `5353:5353/UDP`, or `3000` where there is one port. */
export function readPort(text: string): PortMapping {
  const match = /^(?:([\w-]+):)?(\d+)(?:\/(\w+))?$/.exec(text);
  const [, remote, local, protocol] = match ?? [];
  return {
    ...(remote ? { remote } : {}),
    local: Number(local),
    protocol: protocol?.toUpperCase() === 'UDP' ? 'UDP' : 'TCP',
  };
}

/** What the surroundings of a configuration say. */
export interface RequestContext {
  readonly namespace: string;
  readonly ports: readonly PortMapping[];
  /** The setting, for configurations that do not say it. */
  readonly mount: boolean;
}

export function toRequest(attribute: LaunchAttribute, { namespace, ports, mount }: RequestContext): AttachRequest {
  const { mode, workload, service, container, toPod } = attribute;
  return {
    mode,
    workload,
    namespace,
    service,
    container,
    ports,
    filters: filtersOf(attribute),
    toPod: toPod.map(readPodPort),
    mount: readMount(attribute.mount ?? mount),
  };
}

/** `true:ro` and `folder:ro`: nothing is written to the pod. */
export function readMount(value: boolean | string): MountRequest | undefined {
  if (typeof value === 'boolean') {
    return value ? {} : undefined;
  }
  const isReadOnly = value.endsWith(':ro');
  const folder = isReadOnly ? value.slice(0, -3) : value;
  return { isReadOnly, ...(folder === 'true' || folder === '' ? {} : { folder }) };
}

export function filtersOf(attribute: LaunchAttribute): Required<RequestFilters> {
  const { headers, methods, pathEqual, pathPrefix, pathRegex } = attribute;
  const paths = [
    ...pathEqual.map((value) => serializePathFilter({ kind: 'equal', value })),
    ...pathPrefix.map((value) => serializePathFilter({ kind: 'prefix', value })),
    ...pathRegex.map((value) => serializePathFilter({ kind: 'regex', value })),
  ];
  return { headers, methods, paths };
}

function readPodPort(text: number | string): PodPort {
  const [port, protocol] = String(text).split('/');
  return { port: Number(port), protocol: protocol?.toUpperCase() === 'UDP' ? 'UDP' : 'TCP' };
}

/** Whether an attachment is what a configuration asks for, but perhaps for its ports. */
export function isOfSameKind(attachment: Attachment, request: AttachRequest): boolean {
  const { workload, namespace, mode, container, filters } = attachment;
  return (
    workload === request.workload.split('/').at(-1) &&
    namespace === request.namespace &&
    mode === (request.mode ?? 'intercept') &&
    (!request.container || request.container === container) &&
    filterText(filters) === filterText(request.filters ?? {})
  );
}

/** Whether the ports come to where a configuration wants them. */
export function hasPorts({ ports }: Attachment, request: AttachRequest): boolean {
  const wanted = request.ports ?? [];
  const isAsked = ({ remote, local, protocol = 'TCP' }: PortMapping): boolean =>
    ports.some(
      (each) =>
        each.localPort === local &&
        each.protocol === protocol &&
        (!remote || [each.remote, String(each.servicePort), String(each.containerPort)].includes(remote)),
    );
  return wanted.every(isAsked) && (wanted.length === 0 || wanted.length === ports.length);
}

function filterText({ headers = {}, paths = [], methods = [] }: RequestFilters): string {
  const named = Object.entries(headers).map(([key, value]) => [key.toLowerCase(), value]);
  return JSON.stringify([named.sort(), [...paths].sort(), [...methods].sort()]);
}
