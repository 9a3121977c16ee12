import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Cluster } from '../../cluster/cluster.ts';
import { repositoryRoot } from '../../cluster/paths.ts';
import { run } from '../../cluster/shell.ts';

export interface Row {
  readonly name: string;
  readonly program: 'load' | 'http';
  readonly mode: string;
  readonly count: string;
  readonly field: 'gbps' | 'p50us' | 'p99us' | 'perSecond';
  readonly unit: string;
  /** Of the ratio through the agent over without. */
  readonly passGoal: string;
  /** Of the figure at the developer's machine. */
  readonly reachGoal: string;
}

const perSecond = { field: 'perSecond', unit: '/s' } as const;
const gbps = { program: 'load', count: '1', field: 'gbps', unit: 'Gbit/s' } as const;
const roundTrip = { program: 'load', mode: 'pingpong', count: '1', unit: 'µs' } as const;

export const rows: readonly Row[] = [
  {
    name: 'requests/s, 32 connections',
    program: 'http',
    mode: 'load',
    count: '32',
    ...perSecond,
    passGoal: '≥ 0.5',
    reachGoal: '≥ 6,000',
  },
  {
    name: 'requests/s, 1 connection',
    program: 'http',
    mode: 'load',
    count: '1',
    ...perSecond,
    passGoal: '≥ 0.5',
    reachGoal: '≥ 1,500',
  },
  {
    name: 'new connections/s, 16 at a time',
    program: 'load',
    mode: 'connect1',
    count: '16',
    ...perSecond,
    passGoal: '≥ 0.4',
    reachGoal: '≥ 2,000',
  },
  { name: '1 flow down', mode: 'down', ...gbps, passGoal: '≥ 0.7', reachGoal: '≥ 0.8' },
  { name: '1 flow up', mode: 'up', ...gbps, passGoal: '≥ 0.5', reachGoal: '≥ 1.0' },
  { name: '1-byte round trip p50', ...roundTrip, field: 'p50us', passGoal: '≤ 2', reachGoal: '≤ 650' },
  { name: '1-byte round trip p99', ...roundTrip, field: 'p99us', passGoal: '–', reachGoal: '≤ 1,800' },
];

export interface Deployed {
  /** The service's. */
  readonly address: string;
}

/** The workloads of `workloads.yaml`, started anew: one of them behind an agent. */
export async function deployWorkloads(
  cluster: Pick<Cluster, 'kubectl'>,
): Promise<{ readonly plain: Deployed; readonly carried: Deployed }> {
  const file = join(repositoryRoot, 'test/bench/inbound/workloads.yaml');
  await cluster.kubectl('delete', 'namespace', 'bench', '--ignore-not-found', '--timeout=60s');
  await cluster.kubectl('apply', '-f', file);
  for (const name of ['client', 'plain', 'carried']) {
    await cluster.kubectl('-n', 'bench', 'rollout', 'status', `deploy/${name}`, '--timeout=90s');
  }
  const deployed = async (name: string): Promise<Deployed> => ({
    address: await cluster.kubectl('-n', 'bench', 'get', 'service', name, '-o', 'jsonpath={.spec.clusterIP}'),
  });
  return { plain: await deployed('plain'), carried: await deployed('carried') };
}

/** Of all agents of this machine: resident, and the highest it was. */
export async function agentMemory(): Promise<string> {
  const pids = (await run('pgrep', ['-f', '/app/agent.cjs']).catch(() => '')).split('\n').filter(Boolean);
  const texts = await Promise.all(
    pids.map(async (pid) => {
      const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
      const mb = (field: string): string =>
        (Number(new RegExp(`${field}:\\s+(\\d+)`).exec(status)?.[1]) / 1024).toFixed(0);
      return `${mb('VmRSS')} MB, peak ${mb('VmHWM')} MB`;
    }),
  );
  return texts.join('; ') || 'no agent runs';
}
