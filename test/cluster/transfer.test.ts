import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type Headless, installHeadless } from '../support/headless.ts';
import { openWorkstation, type Workstation } from '../support/workstation.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { repositoryRoot } from './paths.ts';

// A gigabyte each way through TUN, connector, port-forward and manager: whole, and with bounded memory.
const limit = { timeout: 300_000 };
const blocks = 16_384;
const daemonLimitMb = 200;
const connectorLimitMb = 500;

let cluster: Cluster;
let workstation: Workstation;
let headless: Headless;
let program: string;

before(async () => {
  cluster = await openCluster();
  workstation = await openWorkstation(5);
  headless = await installHeadless(workstation, cluster.kubeconfig);
  program = await workstation.give(join(repositoryRoot, 'test/cluster/samples/transfer.js'), 'transfer.js');
  await headless.nearfield('install');
  await headless.connect();
}, limit);

after(async () => {
  await headless?.nearfield('quit').catch(() => undefined);
  await workstation?.down();
}, limit);

async function peakMb(what: 'daemon' | 'connector'): Promise<number> {
  const status = await readFile(`/proc/${await headless.pidOf(what)}/status`, 'utf8');
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
}

for (const direction of ['down', 'up'] as const) {
  test(`1 GB ${direction} arrives with the right SHA-256`, limit, async () => {
    const podIp = await cluster.kubectl(
      '-n',
      'service-b-ns',
      'get',
      'pod',
      '-l',
      'app=service-b',
      '-o',
      'jsonpath={.items[0].status.podIP}',
    );
    const started = performance.now();
    const output = await workstation.run(
      [`${workstation.home}/node`, program, direction, `http://${podIp}:8080`, String(blocks)],
      { timeoutMs: 240_000 },
    );
    console.log(`1 GB ${direction} in ${((performance.now() - started) / 1000).toFixed(1)} s`);
    assert.deepEqual(JSON.parse(output), { same: true });
  });
}

test('memory of daemon and connector stays bounded', limit, async () => {
  const [daemon, connector] = [await peakMb('daemon'), await peakMb('connector')];
  console.log(`peaks: daemon ${daemon.toFixed(0)} MB, connector ${connector.toFixed(0)} MB`);
  assert.ok(daemon < daemonLimitMb, `daemon ${daemon} MB`);
  assert.ok(connector < connectorLimitMb, `connector ${connector} MB`);
});
