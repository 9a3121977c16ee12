import { access, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { createMessageConnection, StreamMessageReader, StreamMessageWriter } from 'vscode-jsonrpc/node';
import { daemonMethod, daemonSocketPaths } from '../../src/protocol/index.ts';
import { run, waitFor } from '../cluster/shell.ts';
import { isRoot } from './paths.ts';
import type { Person } from './person.ts';

const answerLimitMs = 5_000;

/** Asks the daemon to take its device, routes and DNS rules away and to end; does it for one that cannot any more. */
export async function endDaemon({ uid, isOurs }: Person, daemon: string | undefined): Promise<void> {
  const { control, directory } = daemonSocketPaths(uid);
  const isThere = (): Promise<boolean> =>
    access(control).then(
      () => true,
      () => false,
    );
  if (await isThere()) {
    await askToQuit(control).catch(() => undefined);
    await waitFor('the end of the daemon', answerLimitMs, async () => ((await isThere()) ? undefined : true)).catch(
      async () => {
        if (isRoot && daemon) {
          await run(daemon, ['cleanup', '--uid', String(uid)]);
        }
      },
    );
  }
  if (isOurs) {
    await rm(directory, { recursive: true, force: true });
  }
}

async function askToQuit(path: string): Promise<void> {
  const socket = connect(path);
  socket.setTimeout(answerLimitMs, () => socket.destroy());
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve).once('close', reject).on('error', reject);
    });
    const rpc = createMessageConnection(new StreamMessageReader(socket), new StreamMessageWriter(socket));
    rpc.onError(() => undefined);
    rpc.listen();
    await Promise.race([
      rpc.sendRequest(daemonMethod.quit, {}),
      new Promise((resolve) => socket.once('close', resolve)),
    ]);
    rpc.dispose();
  } finally {
    socket.destroy();
  }
}
