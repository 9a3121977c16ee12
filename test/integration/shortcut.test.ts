import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
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
  await waitFor('the short way', 5_000, async () => ((await short()) === 1 ? true : undefined));
  await signalDaemon('STOP');
  t.after(() => signalDaemon('CONT').catch(() => undefined));
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
