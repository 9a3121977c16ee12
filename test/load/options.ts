import { parseArgs } from 'node:util';

export interface LoadOptions {
  readonly minutes: number;
  readonly clients: number;
  readonly workloads: number;
  readonly attachments: number;
  readonly namespaces: number;
  /** The manager's limit. */
  readonly memory: string;
  /** Where the table goes; nowhere without. */
  readonly report: string | undefined;
  readonly json: boolean;
}

const defaults = {
  minutes: '30',
  clients: '300',
  workloads: '1000',
  attachments: '100',
  namespaces: '10',
  memory: '192Mi',
};

export function parseLoadOptions(args: readonly string[]): LoadOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      minutes: { type: 'string', default: defaults.minutes },
      clients: { type: 'string', default: defaults.clients },
      workloads: { type: 'string', default: defaults.workloads },
      attachments: { type: 'string', default: defaults.attachments },
      namespaces: { type: 'string', default: defaults.namespaces },
      memory: { type: 'string', default: defaults.memory },
      report: { type: 'string' },
      json: { type: 'boolean', default: false },
    },
  });
  const { minutes, clients, workloads, attachments, namespaces, memory, report, json } = values;
  return {
    minutes: Number(minutes),
    clients: Number(clients),
    workloads: Number(workloads),
    attachments: Number(attachments),
    namespaces: Number(namespaces),
    memory,
    report,
    json,
  };
}
