import assert from 'node:assert/strict';
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { createClient } from '@connectrpc/connect';
import { systemClock } from '../../src/base/index.ts';
import { wire } from '../../src/protocol/index.ts';
import { createCallTransport, openHttp2 } from '../../src/protocol/transport/index.ts';
import { repositoryRoot } from '../cluster/paths.ts';
import { waitFor } from '../cluster/shell.ts';
import { type Attack, grpcAttacks } from '../support/siege/attacks.ts';
import { webhookAttacks } from '../support/siege/webhook-attacks.ts';

// What strangers send to the manager's two ports. Afterwards it serves, its memory is what it was, and its log has at
// most a few lines, none with what they sent.
const limit = { timeout: 180_000 };
const recoveryMs = 60_000;
const host = '127.0.0.1';
/** What is still held after a collection, above what it was before the first attack: caches, and what is just ending. */
const roomMb = 40;
/** What the process keeps of the system's memory for the next time: that of the most that there ever was at once. */
const residentRoomMb = 300;

let victim: ChildProcessWithoutNullStreams;
let lines: AsyncIterator<string>;
let ports: { readonly grpc: number; readonly https: number };
let resting = { heldMb: 0, rssMb: 0 };

const next = async <T>(): Promise<T> => JSON.parse((await lines.next()).value as string) as T;
const look = (): Promise<{ readonly heldMb: number; readonly rssMb: number; readonly lines: readonly string[] }> => {
  victim.stdin.write('look\n');
  return next();
};

/** A developer comes, asks, and leaves. */
async function serves(): Promise<void> {
  const session = await openHttp2({ host, port: ports.grpc }, { clock: systemClock });
  try {
    const manager = createClient(wire.Manager, createCallTransport(session));
    const client = { name: 'ann@laptop', installId: 'i', product: 'nearfield', version: 'v2.24.0', namespace: 'shop' };
    const { sessionId } = await manager.arriveAsClient(client, { timeoutMs: 20_000 });
    for await (const { events } of manager.watchWorkloads({ sessionInfo: { sessionId } })) {
      assert.deepEqual(
        events.map(({ workload }) => workload?.name),
        ['web'],
      );
      break;
    }
    await manager.depart({ sessionId }, { timeoutMs: 20_000 });
  } finally {
    session.destroy();
  }
}

before(async () => {
  const program = join(repositoryRoot, 'test/support/siege/victim.ts');
  victim = spawn(process.execPath, ['--expose-gc', '--max-old-space-size=256', program]);
  victim.stderr.pipe(process.stderr);
  lines = createInterface({ input: victim.stdout })[Symbol.asyncIterator]();
  ports = await next();
  await serves();
  resting = await look();
}, limit);

after(async () => {
  const ended = once(victim, 'exit');
  victim.kill();
  await ended;
}, limit);

const attacks: readonly (readonly [string, Attack, 'grpc' | 'https'])[] = [
  ...Object.entries(grpcAttacks).map(([name, attack]) => [name, attack, 'grpc'] as const),
  ...Object.entries(webhookAttacks).map(([name, attack]) => [name, attack, 'https'] as const),
];

for (const [name, attack, port] of attacks) {
  test(`${name}, at the port for ${port}`, limit, async (context) => {
    const outcome = await attack({ host, port: ports[port] });
    // What it was sent it may have to read first.
    await waitFor('serving again', recoveryMs, () => serves().then(() => true));
    assert.equal(victim.exitCode, null, 'the process lives');
    const { heldMb, rssMb, lines: logged } = await look();
    context.diagnostic(`${outcome}; ${heldMb.toFixed(0)} of ${rssMb.toFixed(0)} MB, ${logged.length} lines`);
    const grown = [heldMb - resting.heldMb, rssMb - resting.rssMb] as const;
    assert.ok(
      grown[0] < roomMb && grown[1] < residentRoomMb,
      `the memory grew by ${grown.map(Math.round).join(', ')} MB`,
    );
    assert.ok(logged.length <= 10, `there were ${logged.length} lines`);
    assert.ok(logged.every((line) => line.length < 1_000));
  });
}
