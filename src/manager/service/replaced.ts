import { replacedContainer, type SidecarConfig, wire } from '../../protocol/index.ts';

const { ACTIVE, WAITING, NO_AGENT } = wire.InterceptDispositionType;
const holding: ReadonlySet<number> = new Set([ACTIVE, WAITING, NO_AGENT]);

/** The containers of a workload that attachments have taken away. */
export function wantedReplaced(
  intercepts: Iterable<wire.InterceptInfo>,
  { name, namespace }: { readonly name: string; readonly namespace: string },
): Set<string> {
  const names = new Set<string>();
  for (const { spec, disposition } of intercepts) {
    if (spec?.replace && spec.agent === name && spec.namespace === namespace && holding.has(disposition)) {
      names.add(spec.containerName);
    }
  }
  return names;
}

/** Those that a configuration takes away. */
export const replacedIn = (config: SidecarConfig): string[] =>
  config.containers.filter(({ replace }) => replace === replacedContainer).map(({ name }) => name);
