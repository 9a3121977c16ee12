import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { LoadReport } from '../load/report.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { repositoryRoot } from './paths.ts';
import { run } from './shell.ts';

// The short form of `npm run load`: what is lost counts, how long it takes does not. docs/benchmarks-load.md has the long one.
const limit = { timeout: 580_000 };
const size = ['--minutes', '0.4', '--clients', '30', '--workloads', '100', '--attachments', '10', '--namespaces', '3'];

let cluster: Cluster;
let report: LoadReport;

before(async () => {
  cluster = await openCluster();
  const program = join(repositoryRoot, 'test/load/main.ts');
  // Its status says whether something was lost; so do the assertions, more exactly.
  const output = await run(process.execPath, [program, '--json', ...size], { timeoutMs: 570_000 }).catch(
    (error: { stdout?: string }) => error.stdout ?? '',
  );
  assert.notEqual(output, '', 'the load came to its end');
  report = JSON.parse(output.trim().split('\n').at(-1) ?? '') as LoadReport;
}, limit);

after(() => cluster?.kubectl('delete', 'namespace', '-l', 'nearfield-load=yes', '--wait=false'));

test('everybody comes back with their session when the manager is killed or rolled out anew', limit, () => {
  assert.deepEqual(
    report.restarts.map(({ how, clients, lostClients }) => ({ how, clients, lostClients })),
    ['kill', 'rollout'].map((how) => ({ how, clients: 30, lostClients: 0 })),
  );
});

test('every attachment is active again, and its callers reach the developer’s program', limit, () => {
  for (const { attachments, lostAttachments, unanswered } of report.restarts) {
    // Somebody may be leaving or attaching at that very moment.
    assert.ok(attachments >= 8, `${attachments} of 10`);
    assert.deepEqual([lostAttachments, unanswered], [0, 0]);
  }
});

test('nothing is lost at the end, and the manager has not restarted by itself', limit, () => {
  assert.deepEqual(report.lost, { clients: 0, attachments: 0 });
  assert.equal(report.unwantedRestarts, 0);
});

test('every change was seen by everybody', limit, () => {
  const { workloads } = report.latencies;
  assert.ok((workloads?.count ?? 0) > 0);
  assert.equal(workloads?.failed, 0);
});
