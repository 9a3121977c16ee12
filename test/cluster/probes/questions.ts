import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Cluster } from '../cluster.ts';

/** A question in the probes' words, and what any resolver must find. */
export interface Question {
  /** What is special about it, in words. */
  readonly form: string;
  readonly asked: string;
  /** Sorted; empty when there must be nothing. */
  readonly answers: readonly string[];
  /** The answer does not fit a datagram: who does not ask by TCP may have a part of it. */
  readonly isLong?: boolean;
}

const namespace = 'resolvers';
const several = ['198.51.100.1', '198.51.100.2', '198.51.100.3'];
/** 1,600 bytes of records: more than any resolver takes by UDP. */
const many = Array.from({ length: 100 }, (_, index) => `198.51.100.${index + 1}`);

function headless(name: string, addresses: readonly string[]): object[] {
  const ports = [{ name: 'http', port: 8080 }];
  const metadata = { name, namespace };
  return [
    { apiVersion: 'v1', kind: 'Service', metadata, spec: { clusterIP: 'None', ports } },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { ...metadata, labels: { 'kubernetes.io/service-name': name } },
      addressType: 'IPv4',
      endpoints: addresses.map((address, index) => ({ addresses: [address], hostname: `${name}-${index}` })),
      ports,
    },
  ];
}

function alias(name: string, externalName: string): object {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace },
    spec: { type: 'ExternalName', externalName },
  };
}

/** Makes services whose names no sample has: without pods, for only their names are asked for. */
export async function applyNames(cluster: Cluster): Promise<void> {
  const items = [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } },
    ...headless('several', several),
    ...headless('many', many),
    alias('alias', 'service-a.service-a-ns.svc.cluster.local'),
    alias('outside', 'intranet.office.example'),
  ];
  const folder = await mkdtemp(join(tmpdir(), 'nearfield-names-'));
  const file = join(folder, 'names.json');
  await writeFile(file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
  await cluster.kubectl('apply', '-f', file).finally(() => rm(folder, { recursive: true, force: true }));
}

export const removeNames = (cluster: Cluster): Promise<string> =>
  cluster.kubectl('delete', 'namespace', namespace, '--wait=false');

/** Every form of a name. `office` is the address of the name server that the workstation had before. */
export async function questionsFor(cluster: Cluster, office: string): Promise<Question[]> {
  const [service = ''] = await addressesOf(cluster, 'service', 'service-a', 'service-a-ns', '.spec.clusterIP');
  const manager = await addressesOf(cluster, 'pod', '-lapp=traffic-manager', 'ambassador', '.items[*].status.podIP');
  const full = 'service-a.service-a-ns.svc.cluster.local';
  const host = (form: string, name: string, ...answers: readonly string[]): Question => ({
    form,
    asked: `host:${name}`,
    answers: [...answers].sort(),
  });
  return [
    host('in the connected namespace', 'service-a', service),
    host('with its namespace', 'service-a.service-a-ns', service),
    host('with `svc`', 'service-a.service-a-ns.svc', service),
    host('in full', full, service),
    host('in full, absolute', `${full}.`, service),
    host('with its namespace, absolute', 'service-a.service-a-ns.', service),
    host('in capitals', 'SERVICE-A.Service-A-NS', service),
    host('headless, one pod', 'traffic-manager.ambassador', ...manager),
    host('headless, three addresses', `several.${namespace}`, ...several),
    { ...host('headless, a hundred addresses', `many.${namespace}`, ...many), isLong: true },
    host('one pod of a headless service', `several-1.several.${namespace}`, several[1] ?? ''),
    host('an ExternalName in the cluster', `alias.${namespace}`, service),
    host('an ExternalName outside it', `outside.${namespace}`, office),
    host('a name of the office', 'intranet.office.example', office),
    host('no such service', 'no-such-service'),
    host('no such service, with its namespace', 'no-such-service.service-a-ns'),
    host('no such service, in full', 'no-such-service.service-a-ns.svc.cluster.local'),
    host('no such name of the office', 'nothing.office.example'),
    { form: 'SRV', asked: `srv:_http._tcp.${full}`, answers: [`${full}:8080`] },
    { form: 'SRV, no such port', asked: `srv:_ftp._tcp.${full}`, answers: [] },
    { form: 'PTR of a service', asked: `ptr:${service}`, answers: [full] },
    { form: 'PTR of the office', asked: `ptr:${office}`, answers: ['intranet.office.example'] },
    { form: 'PTR, no such service', asked: 'ptr:10.100.255.250', answers: [] },
  ];
}

async function addressesOf(
  cluster: Cluster,
  kind: string,
  what: string,
  where: string,
  path: string,
): Promise<string[]> {
  return (await cluster.kubectl('-n', where, 'get', kind, what, '-o', `jsonpath={${path}}`)).split(' ');
}
