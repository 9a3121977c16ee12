import { join } from 'node:path';
import { repositoryRoot } from '../cluster/paths.ts';
import type { FlowsSeen, FlowsWanted } from './flow-client.ts';
import type { Machine, MachineProcess } from './machine.ts';
import { type OutboundOptions, type OutboundState, ports } from './outbound-program.ts';

export interface RunningOutbound {
  readonly process: MachineProcess;
  readonly addresses: { readonly address4?: string; readonly address6?: string };
  state(): Promise<OutboundState>;
}

export interface StartOptions extends Omit<OutboundOptions, 'runtimeDirectory'> {
  /** What the process may have open; as the machine's unless given. */
  readonly maxDescriptors?: number;
}

/** The connector's real outbound half in the machine, where the daemon runs already. */
export async function startOutbound(
  machine: Machine,
  { maxDescriptors, ...options }: StartOptions = {},
): Promise<RunningOutbound> {
  const all: OutboundOptions = { runtimeDirectory: machine.folder, ...options };
  const process_ = machine.start([
    ...(maxDescriptors === undefined ? [] : ['prlimit', `--nofile=${maxDescriptors}`]),
    ...[process.execPath, join(repositoryRoot, 'test/support/outbound-program.ts'), JSON.stringify(all)],
  ]);
  const addresses = JSON.parse(await process_.line()) as RunningOutbound['addresses'];
  return {
    process: process_,
    addresses,
    async state() {
      process_.child.stdin?.write('state\n');
      return JSON.parse(await process_.line()) as OutboundState;
    },
  };
}

/** A program with many flows, in the machine; TCP to the echo unless it is told otherwise. */
export function startFlows(
  machine: Machine,
  wanted: Partial<FlowsWanted> & Pick<FlowsWanted, 'address' | 'count'>,
  inside: readonly string[] = [],
): MachineProcess {
  const options: FlowsWanted = { protocol: 'tcp', port: ports.echo, timeoutMs: 50_000, ...wanted };
  const program = join(repositoryRoot, 'test/support/flow-client.ts');
  return machine.start([...inside, process.execPath, program, JSON.stringify(options)]);
}

export async function seenBy(client: MachineProcess): Promise<FlowsSeen> {
  return JSON.parse(await client.line()) as FlowsSeen;
}
