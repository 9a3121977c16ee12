import { posix } from 'node:path';
import type { V1Container, V1Pod } from '../../kube/index.ts';
import {
  agentMountsRoot,
  appEnvironmentPrefix,
  type MountPolicy,
  mountPolicies,
  type SidecarConfig,
  type SidecarContainer,
} from '../../protocol/index.ts';
import type { Workload } from '../cluster/cluster.ts';
import { badAnnotation } from '../errors.ts';

type VolumeMount = NonNullable<V1Container['volumeMounts']>[number];
/** By the name of a volume, or by a path that is, or is above, where a container has it. */
export type PolicyRules = Readonly<Record<string, MountPolicy>>;

/** What is temporary in the pod is temporary on the laptop, too. */
export const defaultPolicies: PolicyRules = { '/tmp': mountPolicies.local };

/** The cluster adds this mount when a pod is made, so that no template has it. */
const accountPath = '/var/run/secrets/kubernetes.io/serviceaccount';

/** As the public documentation and the public code spell them. */
const policyNames = new Map<string, MountPolicy>([
  ['remote', mountPolicies.remote],
  ['remotereadonly', mountPolicies.remoteReadOnly],
  ['local', mountPolicies.local],
  ['ignore', mountPolicies.ignore],
]);

/** A JSON object of names or paths and policies; undefined when it is something else. */
export function parsePolicies(text: string): PolicyRules | undefined {
  try {
    const entries = Object.entries(JSON.parse(text) as Record<string, unknown>).map(
      ([key, name]) => [key, policyNames.get(String(name).toLowerCase())] as const,
    );
    return entries.every((entry): entry is [string, MountPolicy] => entry[1] !== undefined)
      ? Object.fromEntries(entries)
      : undefined;
  } catch {
    return undefined;
  }
}

/** The workload's annotations go before the manager's own rules. Errors: `manager.bad-annotation`, lest something is shared that is to stay. */
export function mountRules({ name, object }: Workload, defaults: PolicyRules = defaultPolicies): PolicyRules {
  const annotations = object.spec?.template?.metadata?.annotations ?? {};
  const read = (suffix: string): string | undefined =>
    annotations[`telepresence.io/${suffix}`] ?? annotations[`telepresence.getambassador.io/${suffix}`];
  const policies = read('mount-policies');
  const stated = parsePolicies(policies || '{}');
  if (!stated) {
    throw badAnnotation(name, 'mount-policies', policies ?? '');
  }
  const ignored = listOf(read('inject-ignore-volume-mounts') ?? '');
  return { ...defaults, ...stated, ...Object.fromEntries(ignored.map((each) => [each, mountPolicies.ignore])) };
}

/** What a container's volumes are to become, by their paths. */
export function plannedMounts(container: V1Container, rules: PolicyRules): Record<string, MountPolicy> {
  const mounts = [...(container.volumeMounts ?? []), { name: '', mountPath: accountPath, readOnly: true }];
  return Object.fromEntries(
    mounts
      .map((mount) => ({ ...mount, path: pathOf(mount) }))
      .filter(({ path }) => path !== '/')
      .map(({ name, path, readOnly }) => {
        const policy = policyOf(rules, name, path);
        return [path, policy === mountPolicies.remote && readOnly ? mountPolicies.remoteReadOnly : policy];
      }),
  );
}

/** The name of a volume goes before paths, and of these the longest. */
function policyOf(rules: PolicyRules, name: string, path: string): MountPolicy {
  const above = Object.keys(rules)
    .filter((key) => key.startsWith('/') && `${path}/`.startsWith(`${key.replace(/\/+$/, '')}/`))
    .sort((a, b) => b.length - a.length)[0];
  return rules[name] ?? rules[above ?? ''] ?? mountPolicies.remote;
}

/** Names with commas between them, or as a JSON array. */
function listOf(text: string): string[] {
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) ? value.map(String) : [];
  } catch {
    return text
      .split(',')
      .map((each) => each.trim())
      .filter(Boolean);
  }
}

const pathOf = ({ mountPath }: Pick<VolumeMount, 'mountPath'>): string =>
  posix.join('/', mountPath).replace(/\/+$/, '') || '/';

/** The application's volumes once more, for the agent, below the container's name. */
export function agentMounts({ spec }: V1Pod, { containers }: SidecarConfig): VolumeMount[] {
  return (spec?.containers ?? []).flatMap((container) => {
    const config = containers.find(({ name }) => name === container.name);
    return (container.volumeMounts ?? []).flatMap((mount) => {
      const policy = config?.mounts?.[pathOf(mount)];
      return config && (policy === mountPolicies.remote || policy === mountPolicies.remoteReadOnly)
        ? [agentMount(mount, config, policy === mountPolicies.remoteReadOnly)]
        : [];
    });
  });
}

function agentMount(mount: VolumeMount, config: SidecarContainer, isReadOnly: boolean): VolumeMount {
  const { name, subPath, subPathExpr, readOnly } = mount;
  return {
    name,
    mountPath: `${agentMountsRoot}/${config.name}${pathOf(mount)}`,
    ...(subPath === undefined ? {} : { subPath }),
    // The variables that the path is made of are the agent's under their prefix.
    ...(subPathExpr === undefined
      ? {}
      : { subPathExpr: subPathExpr.replace(/\$\(([^)]+)\)/g, `$(${appEnvironmentPrefix}${config.envPrefix}$1)`) }),
    ...(isReadOnly || readOnly ? { readOnly: true } : {}),
  };
}
