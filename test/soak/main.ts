/**
 * `npm run soak -- --minutes 60`: mixed load through the packaged daemon, in a machine of its own, without a cluster.
 * Memory is sampled and a line fitted; it fails when memory grows, or when packets were dropped that nobody explains.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { cacheFolder, repositoryRoot } from '../cluster/paths.ts';
import { run, waitFor } from '../cluster/shell.ts';
import { openMachine } from '../support/machine.ts';

const periodMs = 10_000;
const warmUpMs = 5 * 60_000;
/** Above what sampling noise makes of an hour. */
const maxSlopeMegabytesPerHour = 6;
/** The system's own doing, or a load that is faster than what takes it: not a fault. */
const explained = new Set(['multicast', 'retransmitted-syn', 'connector-full', 'device-full', 'unknown-flow']);
const address = '10.201.7.7';

interface Sample {
  readonly minutes: number;
  readonly megabytes: number;
}

/** Least squares, in megabytes per hour. */
function slope(samples: readonly Sample[]): number {
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [x, y] = [mean(samples.map(({ minutes }) => minutes)), mean(samples.map(({ megabytes }) => megabytes))];
  const [a, b] = samples.reduce(
    ([over, under], { minutes, megabytes }) => [over + (minutes - x) * (megabytes - y), under + (minutes - x) ** 2],
    [0, 0],
  );
  return ((a ?? 0) / (b || 1)) * 60;
}

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '60' } } });
const minutes = Number(values.minutes);
const machine = await openMachine();
try {
  const load = join(cacheFolder, 'load');
  await run('gcc', ['-O2', '-static', '-o', load, join(repositoryRoot, 'test/bench/native/load.c')]);
  const packaged = join(repositoryRoot, 'dist/nearfield-daemon');
  const daemon = machine.start([packaged, 'run', '--uid', '0', '--runtime-dir', machine.folder]);
  await daemon.line();
  const script = join(repositoryRoot, 'test/bench/device/connector.ts');
  const connector = machine.start([process.execPath, script, 'device', machine.folder, 'node']);
  await connector.line();
  const status = async (): Promise<{ drops: Record<string, number>; dns: { localAddress: string }; pid: number }> =>
    JSON.parse(
      await machine.run([packaged, 'status', '--json', '--uid', '0', '--runtime-dir', machine.folder]),
    ) as Awaited<ReturnType<typeof status>>;
  const dnsPort = (await status()).dns.localAddress.split(':')[1] ?? '';
  const inside = await machine.run(['pidof', 'nearfield-daemon']);
  const names = join(repositoryRoot, 'test/soak/names.ts');
  const started = performance.now();
  const samples: Sample[] = [];
  const totals = { names: 0, answered: 0, errors: 0 };
  const loads: readonly (readonly string[])[] = [
    ['up', '1', '0.4'],
    ['down', '4', '0.4'],
    ['connect64', '16', '0.4'],
    ['udp', '64', '0.4'],
    ['up', '32', '0.3'],
    ['pingpong', '1', '0.3'],
  ];
  for (let round = 0; performance.now() - started < minutes * 60_000; round++) {
    const next = started + (round + 1) * periodMs;
    for (const [mode = '', count = '', seconds = ''] of loads) {
      const output = await machine.run([load, mode, address, '7000', count, seconds], { timeoutMs: 60_000 });
      totals.errors += (JSON.parse(output) as { errors?: number }).errors ?? 0;
    }
    const asked = 500;
    totals.names += asked;
    totals.answered += Number(await machine.run([process.execPath, names, dnsPort, String(asked), String(round)]));
    const memory = await machine.run(['cat', `/proc/${inside.trim()}/status`]);
    const megabytes = Number(/VmRSS:\s+(\d+)/.exec(memory)?.[1]) / 1024;
    samples.push({ minutes: (performance.now() - started) / 60_000, megabytes });
    if (round % 30 === 0) {
      process.stderr.write(`… ${samples.at(-1)?.minutes.toFixed(0)} min: ${megabytes.toFixed(1)} MB\n`);
    }
    await waitFor('the next round', periodMs + 1_000, async () => (performance.now() >= next ? true : undefined));
  }
  const warm = samples.filter((sample) => sample.minutes * 60_000 > Math.min(warmUpMs, (minutes * 60_000) / 4));
  const growth = slope(warm);
  const { drops } = await status();
  const unexplained = Object.keys(drops).filter((reason) => !explained.has(reason));
  const megabytes = warm.map((sample) => sample.megabytes);
  console.log(
    [
      `${minutes} minutes, ${samples.length} rounds of ${loads.map(([mode]) => mode).join(', ')} and ${totals.names} names`,
      `memory after warming up: ${Math.min(...megabytes).toFixed(1)} to ${Math.max(...megabytes).toFixed(1)} MB, slope ${growth.toFixed(2)} MB/h`,
      `names answered: ${totals.answered} of ${totals.names}; failed connections: ${totals.errors}`,
      `drops: ${JSON.stringify(drops)}`,
    ].join('\n'),
  );
  if (
    growth > maxSlopeMegabytesPerHour ||
    unexplained.length > 0 ||
    totals.answered < totals.names ||
    totals.errors > 0
  ) {
    process.exitCode = 1;
    console.log(`failed${unexplained.length > 0 ? `: unexplained drops ${unexplained.join(', ')}` : ''}`);
  }
  await connector.kill('SIGKILL');
  await daemon.kill();
} finally {
  await machine.close();
}
