/**
 * `npm run load -- --minutes 30 --clients 300 --workloads 1000 --attachments 100`: the traffic-manager of the test cluster
 * under load, killed and rolled out anew meanwhile. Prints what it came to, and writes it where `--report` says.
 */
import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { silentLogger, systemClock } from '../../src/base/index.ts';
import { installManager } from '../../src/connector/install/install.ts';
import { readInstallOptions } from '../../src/connector/install/options.ts';
import { loadKube } from '../../src/kube/index.ts';
import { openCluster } from '../cluster/cluster.ts';
import { network } from '../cluster/paths.ts';
import { step } from '../cluster/shell.ts';
import { parseLoadOptions } from './options.ts';
import { printReport } from './report.ts';
import { Load } from './run.ts';

const insideVariable = 'NEARFIELD_LOAD_KUBECONFIG';
const args = process.argv.slice(2);
const options = parseLoadOptions(args);

/** Boots and installs, then goes on in the network of the node, where pods have their addresses. */
async function outside(): Promise<number> {
  const cluster = await openCluster();
  if (!cluster.isOurs) {
    console.error('The load needs the network of its own cluster: unset NEARFIELD_TEST_KUBECONFIG.');
    return 2;
  }
  const kube = loadKube({ kubeconfig: cluster.kubeconfig });
  const resources = { requests: { memory: options.memory, cpu: '100m' }, limits: { memory: options.memory } };
  await step('installing the manager', () =>
    installManager({ kube, clock: systemClock, log: silentLogger }, readInstallOptions({ options: { resources } }), {
      takeOver: true,
    }),
  );
  const child = spawn(
    'nsenter',
    [`--net=/run/netns/${network.namespace}`, process.execPath, import.meta.filename, ...args],
    { stdio: 'inherit', env: { ...process.env, [insideVariable]: cluster.kubeconfig } },
  );
  return await new Promise((resolve) => child.once('exit', (code) => resolve(code ?? 1)));
}

async function inside(kubeconfig: string): Promise<number> {
  const load = await Load.open(options, kubeconfig);
  try {
    const report = await load.run();
    const text = printReport(report);
    process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : text);
    if (options.report) {
      await writeFile(options.report, text);
    }
    const isLost = report.restarts.some(
      ({ lostClients, lostAttachments, unanswered }) => lostClients + lostAttachments + unanswered > 0,
    );
    return isLost || report.lost.clients + report.lost.attachments + report.unwantedRestarts > 0 ? 1 : 0;
  } finally {
    await step('removing what was simulated', () => load.close());
  }
}

const kubeconfig = process.env[insideVariable];
process.exit(await (kubeconfig ? inside(kubeconfig) : outside()));
