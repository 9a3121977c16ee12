import { join } from 'node:path';
import { createLogger, formatJsonLine, giveMemoryBack, LogLevelSwitch, systemClock } from '../base/index.ts';
import { collectLitter, isMemoryTight } from '../protocol/transport/index.ts';
import { startAgent } from './agent.ts';
import { drain } from './drain.ts';
import { loadRelay } from './relay/relay.ts';

/** A little more than an agent has that has carried nothing. */
const worthBytes = 84 * 1024 * 1024;

/** Composition root of the traffic-agent. */
async function main(): Promise<void> {
  const logLevel = new LogLevelSwitch(systemClock, 'info');
  const log = createLogger({
    wallMs: () => systemClock.wallMs(),
    level: logLevel.level,
    sink: (line) => process.stdout.write(`${formatJsonLine(line)}\n`),
  });
  const fatal = (error: unknown): void => {
    log.error('traffic-agent ends', { error });
    process.exit(1);
  };
  process.on('uncaughtException', fatal);
  process.on('unhandledRejection', fatal);
  const { scope, openConnections } = await startAgent({
    clock: systemClock,
    log,
    environment: process.env,
    logLevel,
    relay: loadRelay(join(__dirname, 'relay.node')),
  });
  const collect = collectLitter();
  if (collect) {
    scope.own(
      giveMemoryBack({
        clock: systemClock,
        cpuMs: () => (process.cpuUsage().user + process.cpuUsage().system) / 1_000,
        heldBytes: () => process.memoryUsage.rss(),
        worthBytes,
        isTight: isMemoryTight,
        collect,
      }),
    );
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      void drain(systemClock, openConnections)
        .then(() => scope.dispose())
        .then(() => process.exit(0));
    });
  }
}

main().catch((error: unknown) => {
  process.stderr.write(
    `${JSON.stringify({ level: 'error', message: 'traffic-agent could not start', error: String(error) })}\n`,
  );
  process.exit(1);
});
