/**
 * `npm run bench`: this machine → pod through Nearfield beside a bare `kubectl port-forward` to the same pod, in one
 * run, interleaved. Ratios travel to other machines, absolute figures do not. Writes docs/benchmarks.md.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { nodeBinary } from '../cluster/cache.ts';
import { openCluster } from '../cluster/cluster.ts';
import { cacheFolder, network, repositoryRoot } from '../cluster/paths.ts';
import { run, step, waitFor } from '../cluster/shell.ts';
import { installHeadless } from '../support/headless.ts';
import { openWorkstation, type Workstation } from '../support/workstation.ts';
import { openDelayingRelay } from './delay.ts';
import { measureDevice } from './device/main.ts';
import { measureSession } from './session.ts';

const rounds = Number(process.env['NEARFIELD_BENCH_ROUNDS'] ?? 3);
const seconds = '3';
const forwardPort = 9100;
const target = { port: 9000, udpPort: 9001 };

interface Row {
  readonly name: string;
  readonly mode: string;
  readonly count: string;
  readonly field: 'gbps' | 'p50us' | 'p99us' | 'perSecond';
  readonly unit: string;
  /** What the goal asks of ours over the forward's; undefined where a forward cannot do it. */
  readonly goal: string;
  readonly forwarded: boolean;
}

const rows: readonly Row[] = [
  { name: '1 flow down', mode: 'down', count: '1', field: 'gbps', unit: 'Gbit/s', goal: '≥ 0.9', forwarded: true },
  { name: '1 flow up', mode: 'up', count: '1', field: 'gbps', unit: 'Gbit/s', goal: '≥ 0.8', forwarded: true },
  { name: '32 flows down', mode: 'down', count: '32', field: 'gbps', unit: 'Gbit/s', goal: '–', forwarded: true },
  { name: '32 flows up', mode: 'up', count: '32', field: 'gbps', unit: 'Gbit/s', goal: '–', forwarded: true },
  {
    name: '1-byte round trip p50',
    mode: 'pingpong',
    count: '1',
    field: 'p50us',
    unit: 'µs',
    goal: '≤ 1.35',
    forwarded: true,
  },
  {
    name: '1-byte round trip p99',
    mode: 'pingpong',
    count: '1',
    field: 'p99us',
    unit: 'µs',
    goal: '≤ 1.2',
    forwarded: true,
  },
  {
    name: 'new connections/s, 16 at a time',
    mode: 'connect64',
    count: '16',
    field: 'perSecond',
    unit: '/s',
    goal: '≥ 7',
    forwarded: true,
  },
  {
    name: 'UDP echo, window 64',
    mode: 'udp',
    count: '64',
    field: 'perSecond',
    unit: '/s',
    goal: '–',
    forwarded: false,
  },
];

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
const roundOff = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));

/** A forward has one port; on loopback the kernel takes ports in TIME_WAIT again, so that is enough there. */
const modeOf = (row: Row, ip: string): string => (ip === '127.0.0.1' ? row.mode.replace('64', '') : row.mode);

interface NameRow {
  readonly name: string;
  readonly mode: 'one' | 'many' | 'new';
  readonly asked: string;
  readonly field: 'p50us' | 'p99us' | 'perSecond';
  readonly unit: string;
  readonly goal: string;
}

const nameRows: readonly NameRow[] = [
  {
    name: 'cached, one at a time, p50',
    mode: 'one',
    asked: 'service-a.service-a-ns',
    field: 'p50us',
    unit: 'µs',
    goal: '≤ 100',
  },
  {
    name: 'cached, one at a time, p99',
    mode: 'one',
    asked: 'service-a.service-a-ns',
    field: 'p99us',
    unit: 'µs',
    goal: '≤ 300',
  },
  {
    name: 'cached, 16 at a time',
    mode: 'many',
    asked: 'service-a.service-a-ns',
    field: 'perSecond',
    unit: '/s',
    goal: '≥ 50,000',
  },
  {
    name: 'new cluster name, p50',
    mode: 'new',
    asked: 'service-a-ns.pod.cluster.local',
    field: 'p50us',
    unit: 'µs',
    goal: '≤ 1,500',
  },
  {
    name: 'name of the local network, p50',
    mode: 'one',
    asked: 'intranet.office.example',
    field: 'p50us',
    unit: 'µs',
    goal: '≤ 200',
  },
];

async function measureNames(workstation: Workstation): Promise<string[]> {
  const script = await workstation.give(join(repositoryRoot, 'test/bench/names.mjs'), 'names.mjs');
  const resolv = await workstation.run(['cat', '/etc/resolv.conf']);
  const server = /nameserver (\S+)/.exec(resolv)?.[1] ?? '';
  const lines: string[] = [];
  for (const row of nameRows) {
    const values: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const output = await workstation.run([`${workstation.home}/node`, script, server, row.mode, row.asked]);
      values.push((JSON.parse(output) as Record<string, number>)[row.field] ?? Number.NaN);
    }
    lines.push(`| ${row.name} | ${roundOff(median(values))} ${row.unit} | ${row.goal} |`);
  }
  return lines;
}

/** A route from the workstation to the pods, past everything of ours: the physical limit here. */
async function withDirectRoute<T>(server: string, podIp: string, work: () => Promise<T>): Promise<T> {
  const node = new URL(server).hostname;
  await run('ip', ['route', 'replace', `${podIp}/32`, 'via', node]);
  try {
    return await work();
  } finally {
    await run('ip', ['route', 'delete', `${podIp}/32`, 'via', node]).catch(() => undefined);
  }
}

/** In MB; the manager's process is one of this machine. */
async function managerMemory(field: 'VmRSS' | 'VmHWM'): Promise<string> {
  const pid = (await run('pgrep', ['-f', '/app/manager.cjs'])).split('\n')[0];
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return (Number(new RegExp(`${field}:\\s+(\\d+)`).exec(status)?.[1]) / 1024).toFixed(0);
}

const serverOf = (kubeconfig: string): string => /"?server"?:\s*"?([^\s",]+)/.exec(kubeconfig)?.[1] ?? '';

const device = await measureDevice(rounds);
const cluster = await openCluster();
const workstation = await openWorkstation(6);
try {
  const headless = await installHeadless(workstation, cluster.kubeconfig);
  const loadBinary = join(cacheFolder, 'load');
  await run('gcc', ['-O2', '-static', '-o', loadBinary, join(repositoryRoot, 'test/bench/native/load.c')]);
  const load = await workstation.give(loadBinary, 'load');
  await headless.nearfield('install');
  const selector = ['-n', 'service-a-ns', 'get', 'pod', '-l', 'app=load'];
  const podIp = await cluster.kubectl(...selector, '-o', 'jsonpath={.items[0].status.podIP}');
  const pod = await cluster.kubectl(...selector, '-o', 'jsonpath={.items[0].metadata.name}');
  const kubectl = await workstation.give(await nodeBinary(), 'kubectl');
  const forward = () =>
    workstation.start(
      [kubectl, 'kubectl', '-n', 'service-a-ns', 'port-forward', pod, `${forwardPort}:${target.port}`],
      join(workstation.home, 'forward.log'),
    );
  const measure = async (row: Row, ip: string, port: number): Promise<number> => {
    const output = await workstation
      .run([load, modeOf(row, ip), ip, String(port), row.count, seconds], { timeoutMs: 90_000 })
      .catch(() => '{}');
    return Number((JSON.parse(output) as Record<string, number>)[row.field]);
  };
  const results = new Map(
    rows.map((row) => [row.name, { ours: [] as number[], forward: [] as number[], direct: [] as number[] }]),
  );
  const server = serverOf(await readFile(cluster.kubeconfig, 'utf8'));
  await step('the direct route', () =>
    withDirectRoute(server, podIp, async () => {
      for (const row of rows) {
        results
          .get(row.name)
          ?.direct.push(await measure(row, podIp, row.mode === 'udp' ? target.udpPort : target.port));
      }
    }),
  );
  const managerIdle = await managerMemory('VmRSS');
  await headless.connect();
  for (let number = 1; number <= rounds; number++) {
    await step(`round ${number} of ${rounds}`, async () => {
      for (const row of rows) {
        const result = results.get(row.name);
        result?.ours.push(await measure(row, podIp, row.mode === 'udp' ? target.udpPort : target.port));
        if (row.forwarded) {
          // One failing stream ends a bare forward as a whole: each measurement gets a new one.
          const child = forward();
          await waitFor('the forward', 10_000, async () =>
            (await workstation.run(['ss', '-ltn'])).includes(`:${forwardPort}`) ? true : undefined,
          );
          result?.forward.push(await measure(row, '127.0.0.1', forwardPort));
          child.kill('SIGKILL');
          await workstation.run(['pkill', '-9', '-f', `${forwardPort}:${target.port}`]).catch(() => undefined);
          await waitFor('the end of the forward', 10_000, async () =>
            (await workstation.run(['ss', '-ltn'])).includes(`:${forwardPort}`) ? undefined : true,
          );
        }
      }
    });
  }
  /** Through a relay in front of the API server that makes the line longer, beside what there was without it. */
  async function measureFar(): Promise<string[]> {
    const { hostname, port } = new URL(server);
    // The certificate is for this end of the node's link as well.
    const at = network.hostAddress;
    const relay = await openDelayingRelay({ host: hostname, port: Number(port || 443), at }, 10);
    try {
      await headless.nearfield('quit');
      const text = await readFile(cluster.kubeconfig, 'utf8');
      const config = join(cacheFolder, 'far.kubeconfig');
      await writeFile(config, text.replaceAll(server, `https://${at}:${relay.port}`));
      await headless.connect('--kubeconfig', await workstation.give(config, 'far.kubeconfig'));
      const lines: string[] = [];
      for (const row of rows.filter(({ field }) => field === 'gbps')) {
        const value = await measure(row, podIp, target.port);
        const ratio = value / median(results.get(row.name)?.ours ?? []);
        lines.push(`| ${row.name} | ${roundOff(value)} ${row.unit} | ${ratio.toFixed(2)} | ≥ 0.6 |`);
      }
      return lines;
    } finally {
      await headless.nearfield('quit').catch(() => undefined);
      relay.close();
    }
  }
  const names = await step('names', () => measureNames(workstation));
  const managerPeak = await managerMemory('VmHWM');
  const memory = async (what: 'daemon' | 'connector'): Promise<string> =>
    `${(Number(/VmHWM:\s+(\d+)/.exec(await readFile(`/proc/${await headless.pidOf(what)}/status`, 'utf8'))?.[1]) / 1024).toFixed(0)} MB`;
  const [daemonPeak, connectorPeak] = [await memory('daemon'), await memory('connector')];
  const far = await step('at 20 ms round trip', measureFar);
  const session = await step('coming and going', () => measureSession(workstation, headless));
  const lines = rows.map((row) => {
    const { ours = [], forward: theirs = [], direct = [] } = results.get(row.name) ?? {};
    const [a, b] = [median(ours), median(theirs)];
    const isForwarded = row.forwarded && !Number.isNaN(b);
    return `| ${row.name} | ${roundOff(a)} ${row.unit} | ${isForwarded ? `${roundOff(b)} ${row.unit}` : '–'} | ${isForwarded ? (a / b).toFixed(2) : '–'} | ${roundOff(median(direct))} ${row.unit} | ${row.goal} |`;
  });
  const text = `# Benchmarks

Written by \`npm run bench\`: medians of ${rounds} rounds, interleaved, on ${cpus().length} cores that client, API server, kubelet, containerd and pod
share. *Forward* is one bare \`kubectl port-forward\` to the same pod in the same run, *direct* a temporary route past everything: the physical
limit here, measured once. Compare the ratios (Nearfield over forward): absolute figures are this machine's.

| Outbound, workstation → pod | Nearfield | forward | ratio | direct | goal |
|---|---|---|---|---|---|
${lines.join('\n')}

Memory, idle → peak under this load: manager ${managerIdle} → ${managerPeak} MB (goal ≤ 90 → ≤ 250), daemon peak ${daemonPeak} (goal ≤ 150),
connector peak ${connectorPeak}.

| Names, at the workstation's resolver | Nearfield | goal |
|---|---|---|
${names.join('\n')}

| With 20 ms round trip to the API server | Nearfield | over without | goal |
|---|---|---|---|
${far.join('\n')}

| Coming and going, with the starts of the commands | Nearfield | goal |
|---|---|---|
${session.map(({ name, ms, goal }) => `| ${name} | ${ms.toFixed(0)} ms | ${goal} |`).join('\n')}

${await readFile(join(repositoryRoot, 'test/bench/notes.md'), 'utf8')}
## The device alone

No cluster: the packaged daemon in a namespace of its own, a connector that says yes to everything, and the same load on raw loopback.

${device}
`;
  await writeFile(join(repositoryRoot, 'docs/benchmarks.md'), text);
  console.log(text);
  await headless.nearfield('quit');
} finally {
  await workstation.down();
}
