import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { release } from 'node:os';
import { after, before, test } from 'node:test';
import { waitFor } from '../cluster/shell.ts';
import { type Machine, openMachine, startDaemon } from '../support/machine.ts';
import { type RunningOutbound, startOutbound } from '../support/outbound.ts';
import { ports } from '../support/outbound-program.ts';

// A flow that carries more than a little goes through the kernel alone: seen by stopping the daemon.
const limit = { timeout: 60_000 };
const address = '10.201.0.7';
const megabytes = 20;

/** Asks the echo for each line of its input, and says the answer's digest; ends with its input. */
const program = `
const { connect } = require('node:net');
const { createHash } = require('node:crypto');
const { createInterface } = require('node:readline');
const socket = connect({ host: '${address}', port: ${ports.echo} });
let left = 0, hash;
socket.on('data', (chunk) => {
  hash.update(chunk);
  left -= chunk.length;
  if (left === 0) console.log(hash.digest('hex'));
});
socket.on('error', (error) => console.log(error.code));
createInterface({ input: process.stdin })
  .on('line', (line) => {
    const [bytes, seed] = line.split(' ').map(Number);
    left = bytes;
    hash = createHash('sha256');
    socket.write(Buffer.alloc(bytes, 'message ' + seed + ' '));
  })
  .on('close', () => socket.end());
`;

const [major = 0, minor = 0] = release().split('.').map(Number);
/** Before, there is no such place in the kernel, and the daemon does it all. */
const isInKernel = major > 6 || (major === 6 && minor >= 6);

let machine: Machine;
let outbound: RunningOutbound;

before(async () => {
  machine = await openMachine();
  await startDaemon(machine);
  outbound = await startOutbound(machine);
}, limit);

after(() => machine?.close());

const short = async (): Promise<number> => (await outbound.state()).daemon.flows.short;
const signalDaemon = (signal: string) => machine.run(['pkill', `-${signal}`, '-f', machine.daemon]);

test('bytes arrive unchanged while the daemon stands still, and its end is noticed afterwards', limit, async (t) => {
  const client = machine.start([process.execPath, '-e', program]);
  let seed = 0;
  const echo = async (bytes: number): Promise<void> => {
    client.child.stdin?.write(`${bytes} ${++seed}\n`);
    const expected = createHash('sha256')
      .update(Buffer.alloc(bytes, `message ${seed} `))
      .digest('hex');
    assert.equal(await client.line(), expected);
  };
  await echo(megabytes * 1_000_000);
  await waitFor('the short way', 5_000, async () => ((await short()) === (isInKernel ? 1 : 0) ? true : undefined));
  if (isInKernel) {
    await signalDaemon('STOP');
    t.after(() => signalDaemon('CONT').catch(() => undefined));
  }
  for (const bytes of [1, 1_447, 1_448, 1_449, 65_536, megabytes * 1_000_000]) {
    await echo(bytes);
  }
  client.child.stdin?.end();
  await signalDaemon('CONT');
  await waitFor('the end of the flow', 10_000, async () => {
    const { flows } = (await outbound.state()).daemon;
    return flows.tcp + flows.short === 0 ? true : undefined;
  });
});

test('a small question never goes the short way', limit, async () => {
  const answer = await machine.run(['curl', '-sS', '--max-time', '10', `http://${address}/`]);
  assert.equal(answer, 'here');
  assert.equal(await short(), 0);
});

/** bpf(2) with BPF_MAP_GET_FD_BY_ID or BPF_PROG_GET_FD_BY_ID. */
const isThere = async (command: 13 | 14, id: string): Promise<boolean> => {
  const call = process.arch === 'arm64' ? 280 : 321;
  const script = `my $id = pack('L4', ${id}, 0, 0, 0); print syscall(${call}, ${command}, $id, 16) < 0 ? 'gone' : 'there'`;
  return (await machine.run(['perl', '-e', script])) === 'there';
};

test('of a daemon that is killed neither map nor program stays in the kernel', limit, async () => {
  const read = 'cat /proc/$(pgrep -f "$0 run" | tail -n 1)/fdinfo/*';
  const descriptors = await machine.run(['sh', '-c', read, machine.daemon]);
  const [map, program] = ['map_id', 'prog_id'].map(
    (what) => new RegExp(`^${what}:\\s+(\\d+)$`, 'm').exec(descriptors)?.[1],
  );
  if (!isInKernel) {
    assert.deepEqual([map, program], [undefined, undefined]);
    return;
  }
  assert.ok(map && program, descriptors);
  assert.deepEqual([await isThere(14, map), await isThere(13, program)], [true, true]);
  await signalDaemon('KILL');
  await waitFor('the end of both', 10_000, async () =>
    (await isThere(14, map)) || (await isThere(13, program)) ? undefined : true,
  );
});
