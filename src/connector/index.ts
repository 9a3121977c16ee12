import { Worker } from 'node:worker_threads';
import { type Logger, systemClock, withTimeout } from '../base/index.ts';
import type { Connector } from './contract.ts';
import { type Channel, connectorOver } from './rpc/rpc.ts';
import { youngMegabytes } from './young.ts';

export {
  type AttachedPort,
  type AttachMode,
  type Attachment,
  type AttachRequest,
  attachModes,
  type ClusterChoice,
  type ConnectionState,
  type Connector,
  type ConnectorSnapshot,
  type ConnectRequest,
  type DaemonSockets,
  type DaemonView,
  emptySnapshot,
  type FilesView,
  type HealthView,
  type Inspection,
  type InstallPreview,
  type InstallRequest,
  type InstallStep,
  type LeftOutReason,
  type MountRequest,
  type NamespaceView,
  type NetworkChoice,
  type PodPort,
  type PortMapping,
  type PortProtocol,
  type ProxyRequest,
  type ProxyView,
  type RequestFilters,
  type ServiceView,
  type VolumeView,
  type WorkloadView,
} from './contract.ts';
export { proxyLacks } from './proxy/lacks.ts';

export interface ConnectorDeps {
  /** The bundle of `worker.ts`. */
  readonly workerPath: string;
  readonly log: Logger;
  /** A private folder of the user's for volumes; without one they stay in the pods. */
  readonly volumesFolder?: string | undefined;
}

const endTimeoutMs = 5_000;

/** The connector in a thread of its own, behind the same contract. */
export function createConnector({ workerPath, log, volumesFolder }: ConnectorDeps): Connector {
  const worker = new Worker(workerPath, {
    workerData: { volumesFolder },
    resourceLimits: { maxYoungGenerationSizeMb: youngMegabytes },
  });
  const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  const channel: Channel = {
    send: (message) => worker.postMessage(message),
    receive: (listener) => void worker.on('message', listener),
  };
  const connector = connectorOver(channel, log, async () => {
    worker.postMessage('end');
    await withTimeout(systemClock, endTimeoutMs, 'ending the connector', () => ended).catch(() => worker.terminate());
  });
  worker.on('error', (error) => {
    log.error('the connector failed', { error });
    connector.fail();
  });
  return connector;
}
