import type { Scope } from '../../base/index.ts';
import { Forwarder, type ForwarderOptions } from './forwarder.ts';

export interface ProbePort {
  /** What the kubelet calls. */
  readonly port: number;
  /** Where the application listens. */
  readonly containerPort: number;
}

/** `9903:8080,9904:9000`, as the injector writes it. What is not of that form is left out: a probe must not end an agent. */
export function parseProbePorts(text: string): ProbePort[] {
  return text.split(',').flatMap((each) => {
    const [, port = 0, containerPort = 0] = (/^(\d{1,5}):(\d{1,5})$/.exec(each) ?? []).map(Number);
    return [port, containerPort].every((number) => number > 0 && number < 65_536) ? [{ port, containerPort }] : [];
  });
}

/**
 * Listens where the init container leads probes past the agent. Nothing comes here while the kernel does that; where it
 * could not, probes still reach the application, or the pod would be ended for want of them.
 */
export async function openProbePorts(
  ports: readonly ProbePort[],
  scope: Scope,
  shared: Pick<ForwarderOptions, 'podIp' | 'diverter' | 'relay' | 'clock' | 'log'>,
): Promise<void> {
  for (const { port, containerPort } of ports) {
    const forwarder = scope.own(new Forwarder({ ...shared, agentPort: port, containerPort }));
    await forwarder.listen().catch((error: unknown) => shared.log.info('a port for probes is taken', { port, error }));
  }
}
