import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { waitFor } from '../cluster/shell.ts';
import type { FlowsSeen, FlowsWanted } from '../support/flow-client.ts';
import { type Machine, openMachine, startDaemon } from '../support/machine.ts';
import { type RunningOutbound, seenBy, startFlows, startOutbound } from '../support/outbound.ts';
import { type OutboundState, ports } from '../support/outbound-program.ts';

// Ten thousand flows of one program through a real device, the real daemon and the connector's real outbound half.
const limit = { timeout: 120_000 };
const address = '10.201.0.7';
const many = 10_000;
const firstLocalPort = 20_000;
/** The most that the daemon may ever have had: not more than it may have when idle, and a little for ten thousand flows. */
const peakMegabytes = 100;

let machine: Machine;
let outbound: RunningOutbound;

before(async () => {
  machine = await openMachine();
  // A program may use a port again one second after it closed it.
  await machine.run(['sh', '-c', 'echo 1 > /proc/sys/net/ipv4/tcp_tw_reuse']);
  await startDaemon(machine);
  outbound = await startOutbound(machine);
}, limit);

after(() => machine?.close());

const state = (): Promise<OutboundState> => outbound.state();
const flows = (wanted: Partial<FlowsWanted> = {}): Promise<FlowsSeen> =>
  seenBy(startFlows(machine, { address, count: many, ...wanted }));

/** Nothing is kept for a flow that is over, in the daemon or in the connector. */
async function assertGone(idle: OutboundState): Promise<void> {
  await waitFor('the end of all state', 10_000, async () => {
    const { tunnels, sockets, daemon: status } = await state();
    const left = tunnels + (sockets - idle.sockets) + status.flows.tcp + status.flows.halfOpen;
    return left === 0 ? true : undefined;
  });
}

test(
  'ten thousand connections at once each get their own bytes back, end in halves, and leave nothing',
  limit,
  async (t) => {
    const idle = await state();
    for (const [round, wanted] of [
      ['the program ends first', { port: ports.echo }],
      ['the same ports again at once', { port: ports.echo }],
      ['the program gives all up at once', { isAborted: true }],
      ['the far end ends first', { port: ports.endsFirst, isEndedByPeer: true }],
      ['the same ports again at once, while the listener waits', { port: ports.endsFirst, isEndedByPeer: true }],
    ] as const) {
      const seen = await flows({ ...wanted, firstLocalPort });
      t.diagnostic(`${round}: ${JSON.stringify(seen)}`);
      assert.deepEqual(
        { ...seen, openMs: 0, totalMs: 0 },
        { opened: many, right: many, errors: {}, openMs: 0, totalMs: 0 },
      );
    }
    await assertGone(idle);
    const { daemon: status, peakMegabytes: connectorMegabytes } = await state();
    t.diagnostic(JSON.stringify({ daemonMegabytes: status.rssBytes >> 20, connectorMegabytes, drops: status.drops }));
  },
);

test('five thousand connections to a place that never answers do not stop others', limit, async (t) => {
  const idle = await state();
  const flood = startFlows(machine, { address, port: ports.silent, count: 5_000, atOnce: 5_000, timeoutMs: 12_000 });
  const flooded = await waitFor('the flood', 10_000, async () => {
    const now = await state();
    return now.dials - idle.dials > 500 ? now : undefined;
  });
  t.diagnostic(JSON.stringify({ halfOpen: flooded.daemon.flows.halfOpen }));
  // One at a time: each must pass the gate by itself, however long the flood has lasted.
  const seen = await flows({ count: 200, atOnce: 1, timeoutMs: 10_000 });
  t.diagnostic(JSON.stringify(seen));
  assert.equal(seen.right, 200);
  assert.deepEqual(seen.errors, {});
  assert.ok(seen.openMs < 3_000, `200 connections took ${seen.openMs} ms`);
  assert.equal((await seenBy(flood)).opened, 0);
  await assertGone(idle);
});

test('two thousand datagram flows each get their own datagram back, and refused ones are told', limit, async (t) => {
  const idle = await state();
  const seen = await flows({ protocol: 'udp', count: 2_000, timeoutMs: 8_000 });
  t.diagnostic(JSON.stringify(seen));
  assert.equal(seen.right, 2_000);
  const refused = await flows({ protocol: 'udp', count: 50, port: ports.refused });
  assert.deepEqual(refused.errors, { ECONNREFUSED: 50 });
  const { daemon: status, tunnels } = await state();
  assert.deepEqual({ udp: status.flows.udp, tunnels: tunnels - idle.tunnels }, { udp: 2_000, tunnels: 2_000 });
});

test('the daemon stays small', limit, async (t) => {
  const status = await machine.run(['cat', `/proc/${(await state()).daemon.pid}/status`]);
  const peak = Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1024;
  t.diagnostic(`peak ${peak.toFixed(0)} MB`);
  assert.ok(peak < peakMegabytes, `${peak} MB`);
});

test('a connector that has no descriptors left refuses, keeps what is open, and serves again', limit, async (t) => {
  await outbound.process.kill();
  outbound = await startOutbound(machine, { maxDescriptors: 600 });
  const idle = await state();
  const seen = await flows({ count: 1_500, timeoutMs: 20_000 });
  t.diagnostic(JSON.stringify(seen));
  assert.ok(seen.right > 400, `${seen.right} of 1,500`);
  await assertGone(idle);
  assert.equal((await flows({ count: 300 })).right, 300);
});
