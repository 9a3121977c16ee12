import type { V1Container, V1ResourceRequirements } from '../../kube/index.ts';

/** What an agent takes when nobody is attached. */
const idle: Readonly<Record<string, string>> = { cpu: '10m', memory: '64Mi' };

/**
 * What the installation says. Without that, a request of its own where all the application's containers have one: a
 * HorizontalPodAutoscaler computes nothing while one container of a pod has no request, so that scaling would stop.
 */
export function agentResources(
  containers: readonly V1Container[],
  chosen: V1ResourceRequirements | undefined,
): V1ResourceRequirements {
  if (chosen && Object.keys(chosen).length > 0) {
    return chosen;
  }
  const requests = Object.fromEntries(
    Object.entries(idle).filter(
      ([name]) =>
        containers.length > 0 &&
        containers.every(({ resources }) => (resources?.requests?.[name] ?? resources?.limits?.[name]) !== undefined),
    ),
  );
  return Object.keys(requests).length > 0 ? { requests } : {};
}
