import { randomUUID } from 'node:crypto';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createLogger, formatJsonLine, retry, silentLogger, systemClock, toError, withTimeout } from '../base/index.ts';
import { clientVersion, daemonSocketPaths } from '../protocol/index.ts';
import { displaceLitter } from '../protocol/transport/index.ts';
import { attachFlags, attachUsage, readAttach } from './cli/attach.ts';
import { attachmentsOf, describe, describeAttachment, describeWorkload } from './cli/describe.ts';
import { readSyntax, writeEnvironment } from './cli/environment.ts';
import { installFlags, installUsage, readInstall } from './cli/install.ts';
import { logLevelFlags, logLevelUsage, readLogLevel } from './cli/log-level.ts';
import type { Connector, DaemonSockets, NetworkChoice } from './contract.ts';
import { ConnectorCore } from './core.ts';
import { badRequest, daemonUnreachable } from './errors.ts';
import { readMapping } from './network/choice.ts';
import { startInBackground } from './reach/background.ts';
import { lineChannel, openSocket, serveOnSocket } from './rpc/lines.ts';
import { connectorOver } from './rpc/rpc.ts';
import { youngMegabytes } from './young.ts';

const usage = `nearfield ${clientVersion}: joins this machine to a Kubernetes cluster, for scripts and CI jobs.

  nearfield connect [--kubeconfig F] [--context C] [--namespace N] [--manager-namespace N]
                    [--also-proxy SUBNET]… [--never-proxy SUBNET]… [--allow-conflicting SUBNET]…
                    [--translate-conflicts] [--vnat SUBNET] [--mapped-namespaces A,B]
                    [--include-suffix S]… [--exclude-suffix S]… [--exclude NAME]… [--mapping NAME=OTHER]…
                    [--service-account NAMESPACE/NAME]
                    [--daemon-command JSON | --no-root [--forward LOCAL:HOST:PORT]… [--no-password]]
  nearfield proxy-env [--json]
  nearfield status [--json]
  nearfield list [--json]
${attachUsage}  nearfield leave NAME
${logLevelUsage}  nearfield quit
${installUsage}
--daemon-command is the program that starts the daemon, as a JSON array, when none runs yet.
--no-root offers proxies and forwards on 127.0.0.1 instead; eval "$(nearfield proxy-env)" leads a shell through them.
`;

const folder = process.env.XDG_RUNTIME_DIR
  ? join(process.env.XDG_RUNTIME_DIR, 'nearfield')
  : join(homedir(), '.cache/nearfield');
const volumesFolder = join(folder, 'volumes');
const socketPath = join(folder, 'connector.sock');
/** A machine under load takes its time. */
const startAttempts = 400;
const firstWaitMs = 50;
const quitTimeoutMs = 5_000;

const options = {
  kubeconfig: { type: 'string' },
  context: { type: 'string' },
  namespace: { type: 'string', short: 'n' },
  'manager-namespace': { type: 'string' },
  'service-account': { type: 'string' },
  'daemon-command': { type: 'string' },
  'runtime-dir': { type: 'string' },
  'no-daemon': { type: 'boolean' },
  'no-root': { type: 'boolean' },
  'no-password': { type: 'boolean' },
  forward: { type: 'string', multiple: true },
  'also-proxy': { type: 'string', multiple: true },
  'never-proxy': { type: 'string', multiple: true },
  'allow-conflicting': { type: 'string', multiple: true },
  'translate-conflicts': { type: 'boolean' },
  vnat: { type: 'string' },
  'mapped-namespaces': { type: 'string' },
  'include-suffix': { type: 'string', multiple: true },
  'exclude-suffix': { type: 'string', multiple: true },
  exclude: { type: 'string', multiple: true },
  mapping: { type: 'string', multiple: true },
  ...attachFlags,
  ...installFlags,
  ...logLevelFlags,
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({ args: process.argv.slice(2), options, allowPositionals: true });
  const [verb, argument] = positionals;
  const cluster = { kubeconfig: values.kubeconfig ?? process.env.KUBECONFIG, context: values.context };
  const managerNamespace = values['manager-namespace'];
  const print = (value: unknown, text: string): void =>
    void process.stdout.write(values.json ? `${JSON.stringify(value, undefined, 2)}\n` : `${text}\n`);
  if (values.help || verb === 'help') {
    process.stdout.write(usage);
    return;
  }
  switch (verb) {
    case 'serve':
      return serve();
    case 'connect': {
      const proxy = values['no-root']
        ? { forwards: values.forward, withoutPassword: values['no-password'] }
        : undefined;
      if (!proxy && (values.forward || values['no-password'])) {
        throw badRequest('--forward and --no-password belong to --no-root');
      }
      const network: NetworkChoice = {
        alsoProxy: values['also-proxy'],
        neverProxy: values['never-proxy'],
        allowConflicting: values['allow-conflicting'],
        translateConflicts: values['translate-conflicts'] ?? values.vnat !== undefined,
        virtualSubnet: values.vnat,
        mappedNamespaces: values['mapped-namespaces']?.split(',').map((each) => each.trim()),
        dns: {
          includeSuffixes: values['include-suffix'],
          excludeSuffixes: values['exclude-suffix'],
          excludes: values.exclude,
          mappings: values.mapping?.map(readMapping),
        },
      };
      const daemon =
        values['no-daemon'] || proxy ? undefined : await ensureDaemon(values['runtime-dir'], values['daemon-command']);
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      await withConnector(true, (connector) =>
        connector.connect({
          ...{ ...cluster, namespace: values.namespace, managerNamespace, daemon, proxy, network },
          serviceAccount: values['service-account'],
        }),
      );
      return withConnector(false, async ({ snapshot }) => print(snapshot, describe(snapshot)));
    }
    case 'status':
      return withConnector(false, async ({ snapshot }) => print(snapshot, describe(snapshot)));
    case 'proxy-env':
      return withConnector(false, async (connector) => {
        const environment = await connector.proxyEnvironment();
        if (Object.keys(environment).length === 0) {
          throw badRequest('there are no proxies: connect with --no-root');
        }
        print(environment, toShell(environment));
      });
    case 'list':
      return withConnector(false, async ({ snapshot: { namespaces, attachments } }) => {
        const workloads = namespaces.flatMap((each) => each.workloads);
        print(
          workloads.map((each) => ({ ...each, attachments: attachmentsOf(each, attachments) })),
          workloads.map((each) => describeWorkload(each, attachments)).join('\n'),
        );
      });
    case 'intercept':
    case 'wiretap':
    case 'replace':
    case 'ingest': {
      const request = readAttach(verb, argument, values);
      const syntax = readSyntax(values['env-syntax']);
      return withConnector(false, async (connector) => {
        const attempt = randomUUID();
        // The background process would go on waiting for an agent that nobody wants any more.
        process.once('SIGINT', () => void connector.cancelAttach(attempt).catch(() => undefined));
        const attachment = await connector.attach(request, attempt);
        const files = [
          [values['env-file'], syntax],
          [values['env-json'], 'json'],
        ] as const;
        for (const [path, each] of files) {
          if (path !== undefined) {
            give(path, writeEnvironment(await connector.environment(attachment.name), each));
          }
        }
        print(attachment, describeAttachment(attachment));
      });
    }
    case 'leave':
      return withConnector(false, (connector) => connector.leave(argument ?? ''));
    case 'loglevel': {
      const { level, minutes } = readLogLevel(argument, values);
      return withConnector(false, (connector) => connector.setLogLevel(level, minutes));
    }
    case 'quit':
      return quit();
    case 'install':
    case 'uninstall': {
      const core = new ConnectorCore({ clock: systemClock, log: silentLogger });
      const request = { ...cluster, managerNamespace, ...readInstall(values) };
      if (values['dry-run'] && verb === 'install') {
        const preview = await core.previewInstall(request);
        return print(preview, preview.text.trimEnd());
      }
      let said = '';
      core.onSnapshotChanged(({ installing }) => {
        const text = [installing?.step, installing?.detail].filter(Boolean).join(': ');
        if (text && text !== said) {
          said = text;
          process.stderr.write(`${text}\n`);
        }
      });
      process.once('SIGINT', () => void core.cancelInstall());
      return core[verb](request);
    }
    case 'version':
      process.stdout.write(`${clientVersion}\n`);
      return;
    default:
      process.stderr.write(usage);
      process.exitCode = 2;
  }
}

/** Into a file that is the user's alone, also one that was there before; `-` is the terminal, because it was asked for. */
function give(path: string, text: string): void {
  if (path === '-') {
    process.stdout.write(text);
    return;
  }
  writeFileSync(path, text, { mode: 0o600 });
  chmodSync(path, 0o600);
}

/** For `eval`; no value has a character that single quotes do not hold. */
const toShell = (environment: Readonly<Record<string, string>>): string =>
  Object.entries(environment)
    .map(([name, value]) => `export ${name}='${value}'`)
    .join('\n');

/** The background process: a connector on a socket, until it is told to disconnect. */
async function serve(): Promise<void> {
  const log = createLogger({
    wallMs: () => systemClock.wallMs(),
    level: () => 'debug',
    sink: (line) => process.stderr.write(`${formatJsonLine(line)}\n`),
  });
  displaceLitter(youngMegabytes);
  const core = new ConnectorCore({ clock: systemClock, log, volumesFolder });
  process.on('unhandledRejection', (error) => log.error('unhandled rejection', { error }));
  const server = await serveOnSocket(core, socketPath);
  const end = (): void => {
    server.close();
    void core.dispose().then(() => process.exit(0));
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, end);
  }
  core.onSnapshotChanged(({ connection }) => {
    if (connection.state === 'disconnected' || connection.state === 'failed') {
      // Whoever comes from now on finds nobody, and starts another; the answer to the call that caused it goes out first.
      server.close();
      systemClock.after(200, end);
    }
  });
}

/** Ends the background process, and waits until it has ended: what comes next finds nothing of it. */
async function quit(): Promise<void> {
  const socket = await openSocket(socketPath, systemClock).catch(() => undefined);
  if (!socket) {
    return;
  }
  const ended = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  const connector = connectorOver(lineChannel(socket), silentLogger, async () => void socket.destroy());
  await connector.disconnect().catch(() => undefined);
  await withTimeout(systemClock, quitTimeoutMs, 'ending the connector', () => ended);
}

async function withConnector(mayStart: boolean, work: (connector: Connector) => Promise<void>): Promise<void> {
  const open = () => openSocket(socketPath, systemClock);
  const socket = await open().catch(async (error: unknown): Promise<Socket> => {
    if (!mayStart) {
      throw error;
    }
    startInBackground(
      [process.execPath, `--max-semi-space-size=${youngMegabytes / 3}`, __filename, 'serve'],
      join(folder, 'connector.log'),
    );
    return retry(open, {
      clock: systemClock,
      attempts: startAttempts,
      backoff: { firstMs: firstWaitMs, factor: 1, maxMs: firstWaitMs },
    });
  });
  const channel = lineChannel(socket);
  const first = new Promise<void>((resolve) => channel.receive(() => resolve()));
  const connector = connectorOver(channel, silentLogger, async () => void socket.destroy());
  socket.on('close', () => connector.fail());
  try {
    await first;
    await work(connector);
  } finally {
    socket.destroy();
  }
}

/** A running daemon's sockets; started by the given command when there is none, else said how. */
async function ensureDaemon(
  runtimeDirectory: string | undefined,
  commandJson: string | undefined,
): Promise<DaemonSockets> {
  const uid = process.getuid?.() ?? 0;
  const paths = daemonSocketPaths(uid, runtimeDirectory);
  const core = new ConnectorCore({ clock: systemClock, log: silentLogger });
  const probe = async (): Promise<void> => {
    if (!(await core.probeDaemon(paths))) {
      throw daemonUnreachable(undefined);
    }
  };
  try {
    await probe();
  } catch (error) {
    const command: unknown = commandJson ? JSON.parse(commandJson) : undefined;
    if (!Array.isArray(command) || !command.every((each) => typeof each === 'string')) {
      process.stderr.write(
        `Start the daemon first: sudo nearfield-daemon run --uid ${uid} --gid ${process.getgid?.() ?? 0}\n`,
      );
      throw error;
    }
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    startInBackground(command, join(folder, 'daemon.log'));
    await retry(probe, {
      clock: systemClock,
      attempts: startAttempts,
      backoff: { firstMs: firstWaitMs, factor: 1, maxMs: firstWaitMs },
    });
  }
  return paths;
}

main().then(
  () => {
    if (process.argv[2] !== 'serve') {
      process.exit();
    }
  },
  (thrown: unknown) => {
    const { message, hint } = toError(thrown);
    process.stderr.write(`${message}${hint ? `. ${hint}` : ''}\n`);
    process.exit(1);
  },
);
