import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { Scope, silentLogger } from '../../../src/base/index.ts';
import { type Informer, joinInformers, type Kube, kinds, type V1Pod } from '../../../src/kube/index.ts';
import { waitFor } from '../shell.ts';
import { callerName, callerPort, namespace, type Row, strictNamespace } from './workloads.ts';

export interface Call {
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Somebody in the cluster who calls the rows' workloads, and a live view of their pods. */
export interface Caller {
  /** What was answered: `pod …`, `laptop …`, or `error …`. */
  call(row: Row, call?: Call): Promise<string>;
  /** Pods of a workload that are not ending. */
  podsOf(row: Pick<Row, 'workload' | 'namespace'>): V1Pod[];
  dispose(): Promise<void>;
}

const startMs = 90_000;
const callMs = 8_000;

export const isReady = ({ status }: V1Pod): boolean =>
  status?.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') === true;

export async function openCaller(kube: Kube): Promise<Caller> {
  const scope = new Scope();
  const pods: Informer<V1Pod> = scope.own(
    joinInformers(
      [namespace, strictNamespace].map((each) => kube.watch<V1Pod>(kinds.pod, { log: silentLogger, namespace: each })),
    ),
  );
  await pods.ready;
  const podsOf: Caller['podsOf'] = ({ workload, namespace: space }) =>
    [...pods.items.values()].filter(
      ({ metadata }) =>
        metadata?.labels?.['app'] === workload && metadata.namespace === space && !metadata.deletionTimestamp,
    );
  const pod = await waitFor('the caller', startMs, async () =>
    podsOf({ workload: callerName, namespace }).find(isReady),
  );
  const line = await kube.openPortForward({ namespace, pod: pod.metadata?.name ?? '', port: callerPort });
  scope.defer(() => void line.destroy());
  const ask = conversation(line);
  return {
    podsOf,
    dispose: () => scope.dispose(),
    async call(row, { path = '/x', headers = {} } = {}) {
      const address = podsOf(row).find(isReady)?.status?.podIP;
      const host = row.isByPod ? address : `${row.workload}.${row.namespace}`;
      return host ? await ask({ way: row.way, host, port: row.callPort, path, headers }) : 'error no pod';
    },
  };
}

/** Questions and answers by number over one connection. */
function conversation(line: Duplex): (question: object) => Promise<string> {
  const waiting = new Map<number, (text: string) => void>();
  let count = 0;
  line.on('error', () => undefined);
  createInterface({ input: line }).on('line', (text) => {
    const answer = JSON.parse(text) as { readonly id: number; readonly text: string };
    waiting.get(answer.id)?.(answer.text);
    waiting.delete(answer.id);
  });
  return (question) =>
    new Promise((resolve) => {
      const id = count++;
      const timer = setTimeout(() => resolve('error no answer'), callMs);
      waiting.set(id, (text) => {
        clearTimeout(timer);
        resolve(text);
      });
      line.write(`${JSON.stringify({ id, ...question })}\n`);
    });
}
