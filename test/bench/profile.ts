/** Where time goes while something runs: the machine's CPU by process, and a Node process's own functions. */
import { readdir, readFile } from 'node:fs/promises';
import { run } from '../cluster/shell.ts';

const ticksPerSecond = 100;

interface Usage {
  readonly name: string;
  readonly ticks: number;
}

async function usage(): Promise<Map<string, Usage>> {
  const all = new Map<string, Usage>();
  for (const pid of await readdir('/proc')) {
    if (/^\d+$/.test(pid)) {
      const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      const name = command.split('\0').slice(0, 3).join(' ').slice(-60) || stat.slice(0, 40);
      all.set(pid, { name, ticks: Number(fields[11]) + Number(fields[12]) });
    }
  }
  return all;
}

/** Percent of one core per process while `work` runs, the busiest first. */
export async function cpuShares(work: () => Promise<unknown>): Promise<string[]> {
  const before = await usage();
  const started = performance.now();
  await work();
  const seconds = (performance.now() - started) / 1000;
  const after = await usage();
  return [...after]
    .map(([pid, { name, ticks }]) => ({ name: `${pid} ${name}`, ticks: ticks - (before.get(pid)?.ticks ?? 0) }))
    .filter(({ ticks }) => ticks / ticksPerSecond / seconds > 0.02)
    .sort((a, b) => b.ticks - a.ticks)
    .map(({ name, ticks }) => `${((ticks / ticksPerSecond / seconds) * 100).toFixed(0).padStart(4)} %  ${name}`);
}

interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly samples: readonly number[];
}

/** Self time by function of a Node process of this machine, in its own network namespace; the largest first. */
export async function profileNode(pid: number, milliseconds: number): Promise<string[]> {
  process.kill(pid, 'SIGUSR1');
  const script = `
    const get = async (tries) => { try { return (await (await fetch('http://127.0.0.1:9229/json')).json())[0]; }
      catch (e) { if (tries === 0) throw e; await new Promise((r) => setTimeout(r, 100)); return get(tries - 1); } };
    const { webSocketDebuggerUrl } = await get(30);
    const socket = new WebSocket(webSocketDebuggerUrl);
    await new Promise((r) => socket.addEventListener('open', r));
    let id = 0;
    const waiting = new Map();
    socket.addEventListener('message', ({ data }) => { const m = JSON.parse(data); waiting.get(m.id)?.(m.result); });
    const call = (method, params = {}) => new Promise((r) => { waiting.set(++id, r); socket.send(JSON.stringify({ id, method, params })); });
    await call('Profiler.enable');
    await call('Profiler.setSamplingInterval', { interval: 500 });
    await call('Profiler.start');
    await new Promise((r) => setTimeout(r, ${milliseconds}));
    const { profile } = await call('Profiler.stop');
    process.stdout.write(JSON.stringify(profile), () => process.exit(0));`;
  const output = await run(
    'nsenter',
    ['-t', String(pid), '-n', process.execPath, '--input-type=module', '-e', script],
    { timeoutMs: milliseconds + 20_000 },
  );
  const profile = JSON.parse(output) as CpuProfile;
  const names = new Map(
    profile.nodes.map(({ id, callFrame: { functionName, url, lineNumber } }) => [
      id,
      `${functionName || '(anonymous)'} ${url.split('/').slice(-1)[0]}:${lineNumber + 1}`,
    ]),
  );
  const counts = new Map<string, number>();
  for (const sample of profile.samples) {
    const name = names.get(sample) ?? '?';
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts]
    .sort((a, b) => b[1] - a[1])
    .slice(0, 45)
    .map(([name, count]) => `${((count / profile.samples.length) * 100).toFixed(1).padStart(5)} %  ${name}`);
}
