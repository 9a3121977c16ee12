import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { nodeBinary } from './cache.ts';
import { importImages, importTrafficImage } from './image/images.ts';
import {
  createNetwork,
  destroyNode,
  kubeconfigPath,
  nodeIsHealthy,
  startKubernetes,
  startRuntime,
  writeConfiguration,
} from './node.ts';
import { repositoryRoot } from './paths.ts';
import { ensurePrerequisites, ensureRoot } from './prerequisites.ts';
import { run, step } from './shell.ts';

/** A Kubernetes to test against: ours, or the one that NEARFIELD_TEST_KUBECONFIG names. */
export interface Cluster {
  readonly kubeconfig: string;
  /** False for a cluster that was there before and stays. */
  readonly isOurs: boolean;
  kubectl(...args: string[]): Promise<string>;
  down(): Promise<void>;
}

/** Boots the cluster, or joins it when it is up and well. What a crash has left is removed first. */
export async function openCluster(): Promise<Cluster> {
  const given = process.env['NEARFIELD_TEST_KUBECONFIG'];
  const binary = given ? 'kubectl' : await nodeBinary();
  const prefix = given ? [] : ['kubectl'];
  const kubeconfig = given ?? kubeconfigPath();
  const kubectl = (...args: string[]): Promise<string> =>
    run(binary, [...prefix, `--kubeconfig=${kubeconfig}`, ...args], { timeoutMs: 180_000 });
  if (given) {
    await applySamples(kubeconfig, kubectl);
    return { kubeconfig, isOurs: false, kubectl, down: async () => undefined };
  }
  await ensureRoot();
  await ensurePrerequisites();
  if (await nodeIsHealthy(binary)) {
    await step('importing changed images', async () => {
      await importImages();
      if (await importTrafficImage()) {
        // The tag is the same: a manager that runs would go on with the image of before.
        await kubectl('-n', 'ambassador', 'delete', 'deployment', 'traffic-manager', '--ignore-not-found');
      }
    });
  } else {
    await boot(binary);
  }
  await step('starting the sample workloads', () => applySamples(kubeconfig, kubectl));
  return { kubeconfig, isOurs: true, kubectl, down: () => step('taking the cluster down', destroyNode) };
}

async function boot(binary: string): Promise<void> {
  await step('removing what a crash may have left', destroyNode);
  await step('making the network and the certificates', async () => {
    await createNetwork();
    await writeConfiguration();
  });
  await step('starting containerd and importing images', async () => {
    await startRuntime();
    await importImages();
    await importTrafficImage();
  });
  await step('starting Kubernetes', () => startKubernetes(binary));
}

async function applySamples(kubeconfig: string, kubectl: (...args: string[]) => Promise<string>): Promise<void> {
  const own = process.env['NEARFIELD_TEST_KUBECONFIG'] === kubeconfig ? ['samples'] : ['coredns', 'samples'];
  for (const name of own) {
    await kubectl('apply', '-f', join(repositoryRoot, 'test/cluster/manifests', `${name}.yaml`));
  }
  if (own.includes('coredns')) {
    await kubectl('-n', 'kube-system', 'rollout', 'status', 'deploy/coredns', '--timeout=90s');
  }
  for (const [namespace, name] of await sampleDeployments()) {
    await kubectl('-n', namespace, 'rollout', 'status', `deploy/${name}`, '--timeout=90s');
  }
}

async function sampleDeployments(): Promise<[string, string][]> {
  const text = await readFile(join(repositoryRoot, 'test/cluster/manifests/samples.yaml'), 'utf8');
  return [...text.matchAll(/kind: Deployment\nmetadata: \{name: ([\w-]+), namespace: ([\w-]+)\}/g)].map((match) => [
    match[2] ?? '',
    match[1] ?? '',
  ]);
}
