/**
 * The device part of `npm run bench`: device, NAT and dial channel alone, in a network namespace of its own, beside raw
 * loopback in the same run. No cluster. Answers the table and prints it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cacheFolder, repositoryRoot } from '../../cluster/paths.ts';
import { run, step, waitFor } from '../../cluster/shell.ts';

const namespace = 'nf-bench';
const address = '10.201.7.7';
const seconds = '2';
const sink = { tcp: 7_000, udp: 7_001 };

/** What is measured where: raw loopback, a bare Node server on loopback, and the device in front of either. */
type Path = 'loopback' | 'node' | 'device' | 'device-node';

interface Row {
  readonly name: string;
  readonly mode: string;
  readonly count: string;
  readonly field: 'gbps' | 'p50us' | 'perSecond';
  readonly of: readonly [Path, Path];
  /** What one of those counts for: an echo is a packet there and one back. */
  readonly times?: number;
  readonly goal: string;
}

const rows: readonly Row[] = [
  {
    name: '1 flow up, into a C sink',
    mode: 'up',
    count: '1',
    field: 'gbps',
    of: ['device', 'loopback'],
    goal: '≥ 0.8',
  },
  {
    name: '1 flow down, from a C sink',
    mode: 'down',
    count: '1',
    field: 'gbps',
    of: ['device', 'loopback'],
    goal: '≥ 0.8',
  },
  { name: '32 flows up', mode: 'up', count: '32', field: 'gbps', of: ['device', 'loopback'], goal: '–' },
  { name: '32 flows down', mode: 'down', count: '32', field: 'gbps', of: ['device', 'loopback'], goal: '–' },
  {
    name: '1 flow up, into a Node listener',
    mode: 'up',
    count: '1',
    field: 'gbps',
    of: ['device-node', 'node'],
    goal: '≥ 0.8',
  },
  {
    name: '1 flow down, from a Node listener',
    mode: 'down',
    count: '1',
    field: 'gbps',
    of: ['device-node', 'node'],
    goal: '≥ 0.8',
  },
  {
    name: '1-byte round trip p50',
    mode: 'pingpong',
    count: '1',
    field: 'p50us',
    of: ['device', 'loopback'],
    goal: '≤ 2',
  },
  {
    name: 'connections/s, 16 at a time',
    mode: 'connect64',
    count: '16',
    field: 'perSecond',
    of: ['device', 'loopback'],
    goal: '≥ 0.4',
  },
  {
    name: 'UDP packets/s, echoed in a window of 64',
    mode: 'udp',
    count: '64',
    field: 'perSecond',
    times: 2,
    of: ['device', 'loopback'],
    goal: '≥ 100,000/s',
  },
];

const units = { gbps: 'Gbit/s', p50us: 'µs', perSecond: '/s' } as const;
const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
const round = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));

/** Runs in the namespace; the child is ended by `end`. */
function start(...command: readonly string[]): ChildProcess {
  return spawn('ip', ['netns', 'exec', namespace, ...command], { stdio: ['ignore', 'pipe', 'inherit'] });
}

async function firstLine(child: ChildProcess): Promise<string> {
  let text = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  return waitFor('the first line', 10_000, async () => (text.includes('\n') ? text.split('\n')[0] : undefined));
}

/** Needs root and the packaged daemon (`npm run package`). Answers markdown. */
export async function measureDevice(rounds: number): Promise<string> {
  const runtime = await mkdtemp(join(tmpdir(), 'nearfield-bench-'));
  const children: ChildProcess[] = [];
  const load = join(cacheFolder, 'load');
  await run('ip', ['netns', 'delete', namespace]).catch(() => undefined);
  await run('ip', ['netns', 'add', namespace]);
  try {
    await run('gcc', ['-O2', '-static', '-o', load, join(repositoryRoot, 'test/bench/native/load.c')]);
    await run('ip', ['-n', namespace, 'link', 'set', 'lo', 'up']);
    children.push(start(load, 'serve', String(sink.tcp), String(sink.udp)));
    const script = join(repositoryRoot, 'test/bench/device/connector.ts');
    const bare = start(process.execPath, script, 'bare');
    children.push(bare);
    const barePort = Number(await firstLine(bare));
    const daemonArguments = ['run', '--uid', '0', '--runtime-dir', runtime];
    const daemon = start(join(repositoryRoot, 'dist/nearfield-daemon'), ...daemonArguments);
    children.push(daemon);
    await firstLine(daemon);
    const through = async (to: string) => {
      const connector = start(process.execPath, script, 'device', runtime, to);
      children.push(connector);
      await firstLine(connector);
      return connector;
    };
    const measure = async (row: Row, path: Path): Promise<number> => {
      const isDevice = path.startsWith('device');
      const port = row.mode === 'udp' ? sink.udp : path === 'node' ? barePort : sink.tcp;
      const ends = [isDevice ? address : '127.0.0.1', String(port)];
      const output = await run('ip', ['netns', 'exec', namespace, load, row.mode, ...ends, row.count, seconds], {
        timeoutMs: 60_000,
      });
      return Number((JSON.parse(output) as Record<string, number>)[row.field]) * (row.times ?? 1);
    };
    const results = new Map(rows.map((row) => [row.name, { ours: [] as number[], theirs: [] as number[] }]));
    for (let number = 1; number <= rounds; number++) {
      await step(`device, round ${number} of ${rounds}`, async () => {
        for (const kind of ['device', 'device-node'] as const) {
          const connector = await through(kind === 'device' ? String(sink.tcp) : 'node');
          for (const row of rows.filter(({ of }) => of[0] === kind)) {
            results.get(row.name)?.theirs.push(await measure(row, row.of[1]));
            results.get(row.name)?.ours.push(await measure(row, row.of[0]));
          }
          connector.kill('SIGKILL');
          await waitFor('the device to go', 5_000, async () =>
            (await run('ip', ['-n', namespace, 'link'])).includes('nf0') ? undefined : true,
          );
        }
      });
    }
    const memory = /VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${daemon.pid}/status`, 'utf8'))?.[1];
    const lines = rows.map((row) => {
      const { ours = [], theirs = [] } = results.get(row.name) ?? {};
      const [a, b] = [median(ours), median(theirs)];
      const unit = units[row.field];
      return `| ${row.name} | ${round(a)} ${unit} | ${round(b)} ${unit} | ${(a / b).toFixed(2)} | ${row.goal} |`;
    });
    return [
      '| Device alone | through the device | beside it | ratio | goal |',
      '|---|---|---|---|---|',
      ...lines,
      '',
      `Memory of the daemon after it: ${(Number(memory) / 1024).toFixed(0)} MB (goal ≤ 80).`,
    ].join('\n');
  } finally {
    for (const child of children) {
      child.kill('SIGKILL');
    }
    await run('ip', ['netns', 'delete', namespace]).catch(() => undefined);
    await rm(runtime, { recursive: true, force: true });
  }
}

if (process.argv[1] === import.meta.filename) {
  console.log(await measureDevice(Number(process.argv[2] ?? 3)));
}
