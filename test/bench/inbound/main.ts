/**
 * `npm run bench:inbound`: what a traffic-agent costs whoever is not developing, what reaches the developer, and how long
 * attaching takes, on the same cluster in one run. Writes docs/benchmarks-inbound.md.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { openCluster } from '../../cluster/cluster.ts';
import { cacheFolder, repositoryRoot } from '../../cluster/paths.ts';
import { run, step } from '../../cluster/shell.ts';
import { installHeadless } from '../../support/headless.ts';
import { openWorkstation } from '../../support/workstation.ts';
import { measureDeaths } from './deaths.ts';
import { type LifeRow, measureLife } from './life.ts';
import { agentMemory, type Deployed, deployWorkloads, type Row, rows } from './rows.ts';

const rounds = Number(process.env['NEARFIELD_BENCH_ROUNDS'] ?? 3);
const seconds = '3';
/** How soon the kubelet sees something depends on when it looks, once a second. */
const lifeTimes = 5;
/** A quiet agent gives memory back, and looks every ten seconds whether it is one. */
const restMs = 25_000;
const stalledPort = 9100;

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
const roundOff = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));
const withUnit = (value: number, { unit }: Row): string => (Number.isNaN(value) ? '–' : `${roundOff(value)} ${unit}`);

/** The same rows of several times: the median and the range, and everything that was lost. */
function lifeLines(times: readonly (readonly LifeRow[])[]): string {
  const [first = []] = times;
  return first
    .map(({ name, goal }, index) => {
      const all = times.flatMap((rows) => rows.slice(index, index + 1));
      const took = all.flatMap(({ ms }) => (ms === undefined ? [] : [ms]));
      const range = took.length > 1 ? ` (${roundOff(Math.min(...took))}–${roundOff(Math.max(...took))})` : '';
      const sum = (of: (row: LifeRow) => number): number => all.reduce((total, row) => total + of(row), 0);
      const lost = `${sum(({ failed }) => failed)} of ${sum(({ sent }) => sent)}`;
      return `| ${name} | ${took.length > 0 ? `${roundOff(median(took))} ms${range}` : '–'} | ${lost} | ${goal} |`;
    })
    .join('\n');
}

const cluster = await openCluster();
const workstation = await openWorkstation(6);
try {
  const headless = await installHeadless(workstation, cluster.kubeconfig);
  await headless.nearfield('install');
  let workloads = await step('starting the workloads', () => deployWorkloads(cluster));
  const call = async (row: Row, { address }: Deployed): Promise<number> => {
    const port = row.program === 'http' ? '8080' : '9000';
    const command = [row.program, row.mode, address, port, row.count, seconds];
    const output = await cluster
      .kubectl('-n', 'bench', 'exec', 'deploy/client', '--', ...command)
      .catch((error: unknown) => {
        console.error(`${row.name}: ${String(error).slice(0, 300)}`);
        return '{}';
      });
    return Number((JSON.parse(output) as Record<string, number>)[row.field]);
  };

  const passed = new Map(rows.map(({ name }) => [name, { plain: [] as number[], carried: [] as number[] }]));
  for (let number = 1; number <= rounds; number++) {
    await step(`through the agent, round ${number} of ${rounds}`, async () => {
      for (const row of rows) {
        passed.get(row.name)?.plain.push(await call(row, workloads.plain));
        passed.get(row.name)?.carried.push(await call(row, workloads.carried));
      }
    });
  }
  const memory = await agentMemory();

  for (const name of ['load', 'http']) {
    await run('gcc', [
      '-O2',
      '-static',
      '-o',
      join(cacheFolder, name),
      join(repositoryRoot, `test/bench/native/${name}.c`),
    ]);
  }
  const [load, http] = await Promise.all(
    ['load', 'http'].map((name) => workstation.give(join(cacheFolder, name), name)),
  );
  workstation.start([load ?? '', 'serve', '9000', '9001'], join(workstation.home, 'load.log'));
  workstation.start([http ?? '', 'serve', '8080', 'laptop'], join(workstation.home, 'http.log'));
  await headless.connect();
  const lives: LifeRow[][] = [];
  for (let time = 1; time <= lifeTimes; time++) {
    const { address } = workloads.carried;
    lives.push(
      await step(`attaching and leaving, ${time} of ${lifeTimes}`, () => measureLife({ cluster, headless, address })),
    );
    // What has an agent now has none then.
    workloads = await step('starting the workloads anew', () => deployWorkloads(cluster));
  }
  // Whoever listens in and never reads must not be felt by the caller.
  const stalled = await workstation.give(process.execPath, 'stalled');
  const silent = `require('node:net').createServer((socket) => socket.pause()).listen(${stalledPort}, '127.0.0.1')`;
  workstation.start([stalled, '-e', silent], join(workstation.home, 'stalled.log'));
  const tapped = new Map(rows.map(({ name }) => [name, { unheard: [] as number[], heard: [] as number[] }]));
  for (let number = 1; number <= rounds; number++) {
    for (const program of ['load', 'http'] as const) {
      const measured = rows.filter((each) => each.program === program);
      await step(`with and without a wiretap that stands still, ${program}, round ${number} of ${rounds}`, async () => {
        for (const row of measured) {
          tapped.get(row.name)?.unheard.push(await call(row, workloads.carried));
        }
        const port = `${stalledPort}:${program === 'load' ? 'tcp' : 'http'}`;
        await headless.nearfield('wiretap', 'deployment/carried', '--namespace', 'bench', '--port', port);
        for (const row of measured) {
          tapped.get(row.name)?.heard.push(await call(row, workloads.carried));
        }
        await headless.nearfield('leave', 'carried-bench');
      });
    }
  }
  const reached = new Map(rows.map(({ name }) => [name, [] as number[]]));
  for (const program of ['load', 'http'] as const) {
    const port = program === 'load' ? '9000:tcp' : '8080:http';
    await headless.nearfield('intercept', 'deployment/carried', '--namespace', 'bench', '--port', port);
    for (let number = 1; number <= rounds; number++) {
      await step(`intercepted ${program}, round ${number} of ${rounds}`, async () => {
        for (const row of rows.filter((each) => each.program === program)) {
          reached.get(row.name)?.push(await call(row, workloads.carried));
        }
      });
    }
    await headless.nearfield('leave', 'carried-bench');
  }
  const memoryAfter = await agentMemory();
  const memoryQuiet = await step('letting the agents rest', async () => {
    await new Promise((resolve) => setTimeout(resolve, restMs));
    return agentMemory();
  });
  const deaths = await step('killing this and that', () =>
    measureDeaths({ cluster, headless, address: workloads.carried.address }),
  );

  const passing = rows.map((row) => {
    const { plain = [], carried = [] } = passed.get(row.name) ?? {};
    const [a, b] = [median(plain), median(carried)];
    return `| ${row.name} | ${withUnit(a, row)} | ${withUnit(b, row)} | ${(b / a).toFixed(2)} | ${row.passGoal} |`;
  });
  const listened = rows.map((row) => {
    const { unheard = [], heard = [] } = tapped.get(row.name) ?? {};
    const [a, b] = [median(unheard), median(heard)];
    const goal = row.passGoal === '–' ? '–' : row.unit === 'µs' ? '≤ 1.1' : '≥ 0.9';
    return `| ${row.name} | ${withUnit(a, row)} | ${withUnit(b, row)} | ${(b / a).toFixed(2)} | ${goal} |`;
  });
  const diverted = rows.map(
    (row) => `| ${row.name} | ${withUnit(median(reached.get(row.name) ?? []), row)} | ${row.reachGoal} |`,
  );
  const text = `# Benchmarks, inbound

Written by \`npm run bench:inbound\`: medians of ${rounds} rounds, interleaved, on ${cpus().length} cores that callers, agent, workload, API server and the
developer's machine share. Compare the ratios: absolute figures are this machine's.

| Pod → service in the cluster | no agent | through the agent | ratio | goal |
|---|---|---|---|---|
${passing.join('\n')}

The agent's memory after it: ${memory}.

| Pod → service, beside a wiretap whose copy stands still | without it | with it | ratio | goal |
|---|---|---|---|---|
${listened.join('\n')}

| Pod → developer's machine | Nearfield | goal |
|---|---|---|
${diverted.join('\n')}

The agents' memory in the moment after it: ${memoryAfter}; ${restMs / 1_000} seconds later: ${memoryQuiet} (goal ≤ 90 MB).

| Attaching, a new connection every 20 ms (median and range of ${lifeTimes}) | Nearfield | lost | goal |
|---|---|---|---|
${lifeLines(lives)}

| Something dies beneath an intercept, a new connection every 50 ms | Nearfield | lost | goal |
|---|---|---|---|
${lifeLines([deaths])}

${await readFile(join(repositoryRoot, 'test/bench/inbound/notes.md'), 'utf8')}`;
  await writeFile(join(repositoryRoot, 'docs/benchmarks-inbound.md'), text);
  console.log(text);
  await headless.nearfield('quit').catch(() => undefined);
  await cluster.kubectl('delete', 'namespace', 'bench', '--wait=false');
} finally {
  await workstation.down();
}
process.exit(0);
