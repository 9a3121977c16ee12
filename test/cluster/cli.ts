import { spawnSync } from 'node:child_process';
import { nodeBinary } from './cache.ts';
import { openCluster } from './cluster.ts';
import { destroyNode, kubeconfigPath, nodeIsHealthy } from './node.ts';
import { ensureRoot } from './prerequisites.ts';
import { step } from './shell.ts';

/** `npm run cluster up|down|status|kubectl …`: a Kubernetes to play with. */
async function main(verb: string | undefined, rest: readonly string[]): Promise<number> {
  switch (verb) {
    case 'up': {
      const cluster = await openCluster();
      console.log(`export KUBECONFIG=${cluster.kubeconfig}`);
      return 0;
    }
    case 'down':
      await ensureRoot();
      await step('taking the cluster down', destroyNode);
      return 0;
    case 'status': {
      const isHealthy = await nodeIsHealthy(await nodeBinary());
      console.log(isHealthy ? `up, kubeconfig ${kubeconfigPath()}` : 'down');
      return isHealthy ? 0 : 1;
    }
    case 'kubectl':
      return (
        spawnSync(await nodeBinary(), ['kubectl', `--kubeconfig=${kubeconfigPath()}`, ...rest], { stdio: 'inherit' })
          .status ?? 1
      );
    default:
      console.error('usage: npm run cluster up|down|status|kubectl …');
      return 2;
  }
}

main(process.argv[2], process.argv.slice(3)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  },
);
