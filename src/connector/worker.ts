import { parentPort, resourceLimits, workerData } from 'node:worker_threads';
import { createLogger, plainFields, systemClock } from '../base/index.ts';
import { displaceLitter } from '../protocol/transport/index.ts';
import { ConnectorCore } from './core.ts';
import { type Channel, serveConnector } from './rpc/rpc.ts';

/** The connector's own thread: bulk streams must not hold up the editor's extension host. */
if (parentPort) {
  const port = parentPort;
  const channel: Channel = {
    send: (message) => port.postMessage(message),
    receive: (listener) => void port.on('message', listener),
  };
  const log = createLogger({
    wallMs: () => systemClock.wallMs(),
    level: () => 'debug',
    sink: ({ level, scope, message, fields }) =>
      port.postMessage({ type: 'log', level, scope, message, fields: plainFields(fields) }),
  });
  if (resourceLimits.maxYoungGenerationSizeMb) {
    displaceLitter(resourceLimits.maxYoungGenerationSizeMb);
  }
  const { volumesFolder } = (workerData ?? {}) as { readonly volumesFolder?: string };
  const core = new ConnectorCore({ clock: systemClock, log, volumesFolder });
  process.on('unhandledRejection', (error) => log.error('unhandled rejection in the connector', { error }));
  serveConnector(core, channel);
  port.on('message', (message: unknown) => {
    if (message === 'end') {
      void core.dispose().then(() => process.exit(0));
    }
  });
}
