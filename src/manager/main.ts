import { readFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import {
  createLogger,
  formatJsonLine,
  giveMemoryBack,
  LogLevelSwitch,
  parseLogLevel,
  systemClock,
} from '../base/index.ts';
import { loadKubeInCluster } from '../kube/index.ts';
import { collectLitter, isMemoryTight } from '../protocol/transport/index.ts';
import { parseOptions, startManager } from './manager.ts';
import type { ProcessNumbers } from './metrics/metrics.ts';

/** Live state is about 20 MB, and the code's own memory is outside of what is counted. */
const worthBytes = 32 * 1024 * 1024;

/** The heap with its garbage, and the buffers that hang on it. */
function heldBytes(): number {
  const { heapTotal, external } = process.memoryUsage();
  return heapTotal + external;
}

/** Composition root of the traffic-manager. */
async function main(): Promise<void> {
  const options = parseOptions(process.env);
  if (Array.isArray(options)) {
    process.stderr.write(`The environment is not right: ${options.join('; ')}\n`);
    process.exit(2);
  }
  if (!('SERVER_PORT' in options)) {
    return;
  }
  const logLevel = new LogLevelSwitch(systemClock, parseLogLevel(options.LOG_LEVEL) ?? 'info');
  const log = createLogger({
    wallMs: () => systemClock.wallMs(),
    level: logLevel.level,
    sink: (line) => process.stdout.write(`${formatJsonLine(line)}\n`),
  });
  const fatal = (error: unknown): void => {
    log.error('traffic-manager ends', { error });
    process.exit(1);
  };
  process.on('uncaughtException', fatal);
  process.on('unhandledRejection', fatal);
  const scope = await startManager(
    {
      ...{ kube: loadKubeInCluster(), clock: systemClock, log, logLevel },
      resolvConf: readFileSync('/etc/resolv.conf', 'utf8'),
      process: processNumbers(),
    },
    options,
  );
  const collect = collectLitter();
  if (collect) {
    scope.own(
      giveMemoryBack({
        clock: systemClock,
        cpuMs: () => (process.cpuUsage().user + process.cpuUsage().system) / 1_000,
        heldBytes,
        worthBytes,
        isTight: isMemoryTight,
        collect,
      }),
    );
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      log.info('stopping', { signal });
      void scope.dispose().then(() => process.exit(0));
    });
  }
}

function processNumbers(): ProcessNumbers {
  const delay = monitorEventLoopDelay({ resolution: 20 });
  delay.enable();
  return {
    memoryBytes: () => process.memoryUsage.rss(),
    cpuSeconds: () => (process.cpuUsage().user + process.cpuUsage().system) / 1e6,
    loopDelaySeconds: () => {
      const seconds = delay.max / 1e9;
      delay.reset();
      return seconds;
    },
  };
}

main().catch((error: unknown) => {
  process.stderr.write(
    `${JSON.stringify({ level: 'error', message: 'traffic-manager could not start', error: String(error) })}\n`,
  );
  process.exit(1);
});
