import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { getAsset, isSea } from 'node:sea';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import {
  createLogger,
  type Disposable,
  formatJsonLine,
  isReason,
  silentLogger,
  systemClock,
  toError,
  withTimeout,
} from '../base/index.ts';
import { clientVersion, daemonRuntimeDirectory, daemonSocketPaths } from '../protocol/index.ts';
import { askQuit, askStatus, describeStatus } from './control/client.ts';
import { Daemon, type DaemonOptions } from './daemon.ts';
import { cleanUpAfter, startJanitor } from './life/janitor.ts';
import { defaultHangMs, startPulse } from './life/pulse.ts';
import { runCommand } from './os/command.ts';
import { realFiles } from './os/files.ts';
import { systemOf } from './os/platform.ts';
import { installSelf, removeEarlier, removeInstalled } from './service/install.ts';
import { serviceManagerOf } from './service/services.ts';
import { startDetached } from './service/start.ts';

const usage = `nearfield-daemon ${clientVersion}
usage: nearfield-daemon run --uid UID --gid GID [--runtime-dir DIR] [--idle-exit-seconds N] [--hang-seconds N]
                              [--background] [--service]
       nearfield-daemon install --digest SHA256 [--then-run --uid UID --gid GID]
       nearfield-daemon service install|remove|status --uid UID [--gid GID] [--digest SHA256]
       nearfield-daemon status --uid UID [--json]
       nearfield-daemon cleanup --uid UID [--unless-running] [--runtime-dir DIR]
       nearfield-daemon version
`;
const programFolder = isSea() ? dirname(process.execPath) : __dirname;
const maxId = 0xfffffffe;
/** Less than what systemd gives us. */
const stopLimitMs = 8_000;
const verbs: readonly string[] = ['run', 'install', 'service', 'status', 'cleanup'];

// A young generation of the default size fills with what a batch leaves behind, and is never given back.
setFlagsFromString('--semi-space-growth-factor=1');
setFlagsFromString('--max-semi-space-size=1');
setFlagsFromString('--min-semi-space-size=1');

/** The device addon: an asset of the executable, or the file beside it, as beside the bundle in development. */
function loadAddon(): unknown {
  const { addonName, isAddonBeside } = systemOf(process.platform);
  if (!isSea() || isAddonBeside) {
    return createRequire(__filename)(join(programFolder, addonName));
  }
  // A folder of root's own, gone again before anything else happens.
  const folder = mkdtempSync(join(tmpdir(), 'nearfield-'));
  try {
    const path = join(folder, addonName);
    writeFileSync(path, Buffer.from(getAsset(addonName)), { mode: 0o500 });
    const module = { exports: {} };
    process.dlopen(module, path);
    return module.exports;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    args: process.argv.slice(2),
    allowPositionals: true,
    options: {
      uid: { type: 'string' },
      gid: { type: 'string' },
      'runtime-dir': { type: 'string', default: daemonRuntimeDirectory },
      'idle-exit-seconds': { type: 'string', default: '60' },
      /** 0: no watchdog, for a debugger. */
      'hang-seconds': { type: 'string', default: String(defaultHangMs / 1000) },
      /** Run by the system: it stays, and says so. */
      service: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      'unless-running': { type: 'boolean', default: false },
      digest: { type: 'string', default: '' },
      'then-run': { type: 'boolean', default: false },
      /** Leaves the terminal or dialog that started it. */
      background: { type: 'boolean', default: false },
    },
  });
  const [verb] = positionals;
  if (verb === 'version') {
    process.stdout.write(`${clientVersion}\n`);
    return 0;
  }
  if (verb === 'install' && !values['then-run']) {
    return asRoot(async () => process.stdout.write(`${await installSelf(values.digest)}\n`));
  }
  const uid = toId(values.uid);
  const gid = toId(values.gid ?? values.uid);
  const idleSeconds = toId(values['idle-exit-seconds']);
  const hangSeconds = toId(values['hang-seconds']);
  if (
    !verbs.includes(verb ?? '') ||
    uid === undefined ||
    gid === undefined ||
    idleSeconds === undefined ||
    hangSeconds === undefined
  ) {
    process.stderr.write(usage);
    return 2;
  }
  if (verb === 'status') {
    return printStatus(uid, values['runtime-dir'], values.json);
  }
  if (!systemOf(process.platform).isPrivileged(loadAddon)) {
    process.stderr.write('nearfield-daemon needs root: run it with sudo.\n');
    return 1;
  }
  const ids = ['--uid', String(uid), '--gid', String(gid)];
  if (verb === 'install') {
    return asRoot(async () => startDetached(await installSelf(values.digest), ['run', ...ids], systemClock));
  }
  if (verb === 'service') {
    const control = daemonSocketPaths(uid, values['runtime-dir']).control;
    return asRoot(() => manageService(positionals[1] ?? '', { uid, gid, digest: values.digest, control }));
  }
  if (verb === 'cleanup') {
    const platform = systemOf(process.platform).create({
      clock: systemClock,
      log: silentLogger,
      run: runCommand,
      addon: loadAddon,
      programFolder,
    });
    await (values['unless-running']
      ? cleanUpAfter(platform, systemClock, uid, values['runtime-dir'])
      : platform.cleanUp(uid));
    return 0;
  }
  if (values.background) {
    const [file = '', ...rest] = ownProgram();
    return asRoot(() =>
      startDetached(file, [...rest, 'run', ...ids, '--runtime-dir', values['runtime-dir']], systemClock),
    );
  }
  return runDaemon({
    uid,
    gid,
    runtimeDirectory: values['runtime-dir'],
    idleExitMs: values.service ? 0 : idleSeconds * 1000,
    isService: values.service,
    hangMs: hangSeconds * 1000,
  });
}

/** What only root may do; a failure is a sentence and what to do. */
async function asRoot(work: () => Promise<unknown>): Promise<number> {
  if (!systemOf(process.platform).isPrivileged(loadAddon)) {
    process.stderr.write('nearfield-daemon needs root: run it with sudo.\n');
    return 1;
  }
  try {
    await work();
    return 0;
  } catch (thrown) {
    const { message, hint } = toError(thrown);
    process.stderr.write(`${hint ? `${message}. ${hint}` : message}\n`);
    return 1;
  }
}

async function manageService(
  what: string,
  { uid, gid, digest, control }: { uid: number; gid: number; digest: string; control: string },
): Promise<void> {
  const service = serviceManagerOf(process.platform, { run: runCommand, files: realFiles, clock: systemClock });
  if (what === 'install') {
    await service.check();
    const program = await installSelf(digest);
    const running = await askStatus(control, systemClock);
    if (running && !running.service) {
      // One of the session would not let the service begin.
      await askQuit(control, systemClock);
    }
    await service.install({ uid, gid }, program);
    // The one before ran until now.
    await removeEarlier(program);
  } else if (what === 'remove') {
    if (await service.remove(uid)) {
      await removeInstalled();
    }
  } else {
    process.stdout.write(`${await service.state(uid)}\n`);
  }
}

async function printStatus(uid: number, runtimeDirectory: string, asJson: boolean): Promise<number> {
  const status = await askStatus(daemonSocketPaths(uid, runtimeDirectory).control, systemClock);
  if (!status) {
    process.stderr.write('No daemon of this user runs.\n');
    return 1;
  }
  process.stdout.write(`${asJson ? JSON.stringify(status) : describeStatus(status)}\n`);
  return 0;
}

async function runDaemon(options: DaemonOptions & { readonly hangMs: number }): Promise<number> {
  const notifyPath = process.env['NOTIFY_SOCKET'];
  // Whatever we run speaks for itself.
  delete process.env['NOTIFY_SOCKET'];
  const log = createLogger({
    wallMs: () => systemClock.wallMs(),
    sink: (line) => process.stderr.write(`${formatJsonLine(line)}\n`),
  });
  // Opened once, before anything else: a device that cannot be opened is said at once.
  const addon = loadAddon();
  const platform = systemOf(process.platform).create({
    clock: systemClock,
    log,
    run: runCommand,
    addon: () => addon,
    programFolder,
  });
  const daemon = new Daemon({ clock: systemClock, log, platform }, options);
  const program = ownProgram();
  const ids = ['--uid', String(options.uid), '--runtime-dir', options.runtimeDirectory];
  const pulse = startPulse({
    clock: systemClock,
    log: log.child('pulse'),
    platform,
    hangMs: options.hangMs,
    notifyPath,
    hasStalled: () => daemon.hasStalled(),
  });
  let janitor: Disposable | undefined;
  let isEnding = false;
  const end = async (code: number): Promise<never> => {
    if (!isEnding) {
      isEnding = true;
      pulse.stopping();
      await withTimeout(systemClock, stopLimitMs, 'stopping', () => daemon.stop()).then(
        () => void janitor?.dispose(),
        // Then the janitor does it.
        (error: unknown) => log.error('stopping failed', { error }),
      );
      process.exit(code);
    }
    return new Promise<never>(() => undefined);
  };
  // Where the log goes may end before us.
  process.stderr.on('error', () => undefined);
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.on(signal, () => void end(0));
  }
  const fatal = (error: unknown): void => {
    log.error('daemon ends: this is a fault of ours', { error });
    void end(1);
  };
  process.on('uncaughtException', fatal);
  process.on('unhandledRejection', fatal);
  // First of all: a kill may come at any moment after.
  janitor = startJanitor([...program, 'cleanup', '--unless-running', ...ids], log.child('janitor'));
  try {
    await daemon.start();
  } catch (error) {
    void pulse.dispose();
    void janitor?.dispose();
    if (isReason(error, 'daemon.already-running')) {
      process.stdout.write('already running\n');
      return 0;
    }
    process.stderr.write(`${toError(error).message}\n`);
    return 1;
  }
  pulse.ready();
  process.stdout.write('ready\n');
  await daemon.ended;
  return end(0);
}

/** The bundle in development, nothing in the executable: there it is the program itself. */
function ownProgram(): string[] {
  return isSea() ? [process.execPath] : [process.execPath, __filename];
}

function toId(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) && Number(text) <= maxId ? Number(text) : undefined;
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    process.stderr.write(`${toError(error).message}\n`);
    process.exit(1);
  },
);
