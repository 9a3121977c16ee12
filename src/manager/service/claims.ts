import { filterKey, hasFilters, wire } from '../../protocol/index.ts';

const { ACTIVE, WAITING, NO_AGENT } = wire.InterceptDispositionType;
const holding: ReadonlySet<number> = new Set([ACTIVE, WAITING, NO_AGENT]);

/** Whether an intercept has, or waits for, something of a workload. */
export const isHolding = (
  { spec, disposition }: wire.InterceptInfo,
  { name, namespace }: { readonly name: string; readonly namespace: string },
): boolean => spec?.agent === name && spec.namespace === namespace && holding.has(disposition);

/** A container port of a pod, as `8080/TCP`. */
export type PortName = string;

export const portName = (containerPort: number, protocol: string): PortName =>
  `${containerPort}/${protocol.toUpperCase() === 'UDP' ? 'UDP' : 'TCP'}`;

/** The container ports that a completed specification means: its own, and its further ones. */
export function portsOf({ containerPort, protocol, podPorts }: wire.InterceptSpec): PortName[] {
  const further = podPorts.map((text) => {
    const [, port = '', kind = 'TCP'] = /^(\d+)(?::\d+)?(?:\/(\w+))?$/.exec(text) ?? [];
    return port ? portName(Number(port), kind) : '';
  });
  return [...(containerPort ? [portName(containerPort, protocol)] : []), ...further.filter(Boolean)];
}

/**
 * Who has what a new one wants: the same requests of the same port, or the rest of it. A wiretap takes nothing from
 * anybody. Undefined when it is free.
 */
export function holderOf(
  intercepts: Iterable<wire.InterceptInfo>,
  wanted: wire.InterceptSpec,
): { readonly holder: wire.InterceptInfo; readonly port: PortName } | undefined {
  if (wanted.wiretap) {
    return undefined;
  }
  const ports = portsOf(wanted);
  const key = keyOf(wanted);
  for (const holder of intercepts) {
    const { spec, disposition } = holder;
    if (
      spec?.agent === wanted.agent &&
      spec.namespace === wanted.namespace &&
      !spec.wiretap &&
      holding.has(disposition) &&
      // A container that is taken away has nothing left that others could have.
      (keyOf(spec) === key || spec.replace || wanted.replace)
    ) {
      const theirs = portsOf(spec);
      const port = ports.find((each) => theirs.includes(each));
      const isSameContainer = spec.replace && wanted.replace && spec.containerName === wanted.containerName;
      if (port || isSameContainer) {
        return { holder, port: port ?? spec.containerName };
      }
    }
  }
  return undefined;
}

const keyOf = (spec: wire.InterceptSpec): string => (hasFilters(spec) ? filterKey(spec) : '');
