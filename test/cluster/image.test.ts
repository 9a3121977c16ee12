import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { silentLogger, systemClock } from '../../src/base/index.ts';
import { ConnectorCore } from '../../src/connector/core.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { stateFolder } from './paths.ts';

// What runs in everybody's cluster: small, without root, without a shell, unable to change its own files.
const limit = { timeout: 180_000 };
const managerNamespace = 'nearfield-image';
const sizeLimitMb = 125;
const startLimitMs = 5_000;
let cluster: Cluster;
let core: ConnectorCore;
const request = () => ({ kubeconfig: cluster.kubeconfig, managerNamespace });

before(async () => {
  cluster = await openCluster();
  core = new ConnectorCore({ clock: systemClock, log: silentLogger });
  // Another traffic-manager for the whole cluster would not let it in.
  await core.uninstall({ kubeconfig: cluster.kubeconfig, evenWithAgents: true });
  await core.install(request());
}, limit);

after(async () => {
  await core?.uninstall(request());
  await core?.dispose();
}, limit);

const inPod = (...command: string[]): Promise<string> =>
  cluster.kubectl('-n', managerNamespace, 'exec', 'deploy/traffic-manager', '--', ...command);
const evaluate = (script: string): Promise<string> => inPod('/usr/local/bin/node', '-p', script);

test('it is no larger than Node without its symbols and what we add', async (t) => {
  const { size } = await stat(join(stateFolder, 'images/docker.io-nearfield-traffic-0.1.0.tar'));
  t.diagnostic(`image: ${(size / 1e6).toFixed(1)} MB`);
  assert.ok(size / 1e6 < sizeLimitMb);
});

test('the manager’s program has no class in it that is made from the Kubernetes API and not used', limit, async () => {
  const count = await evaluate(
    'require("fs").readFileSync("/app/manager.cjs", "utf8").split("attributeTypeMap").length - 1',
  );
  assert.equal(count.trim(), '0');
});

test('it runs as a user without rights, who has no shell and cannot write', limit, async () => {
  assert.equal((await evaluate('process.getuid() + ":" + process.getgid()')).trim(), '1000:1000');
  const capabilities = await evaluate(
    'require("fs").readFileSync("/proc/self/status", "utf8").match(/CapEff:\\s+(.*)/)[1]',
  );
  assert.match(capabilities.trim(), /^0+$/);
  for (const shell of ['sh', 'bash', '/bin/busybox']) {
    await assert.rejects(inPod(shell, '-c', 'true'));
  }
  for (const path of ['/app/manager.cjs', '/etc/passwd', '/tmp/x']) {
    const error = await evaluate(`try { require("fs").appendFileSync("${path}", ""); "written" } catch (e) { e.code }`);
    assert.match(error.trim(), /^(EROFS|EACCES)$/, path);
  }
});

test('the manager runs with what the entry point of the image says of its heap', limit, async () => {
  const line = await evaluate('require("fs").readFileSync("/proc/1/cmdline", "utf8").split("\\0").join(" ")');
  assert.match(line, /^\/usr\/local\/bin\/node --heap-growing-percent=20 --max-semi-space-size=2 \/app\/manager\.cjs/);
});

test('the manager serves soon after its process began', limit, async (t) => {
  const script = `
    const fs = require("fs");
    const ticks = Number(fs.readFileSync("/proc/1/stat", "utf8").split(") ")[1].split(" ")[19]);
    const up = Number(fs.readFileSync("/proc/uptime", "utf8").split(" ")[0]);
    Date.now() - (up - ticks / 100) * 1000`;
  const startedMs = Number(await evaluate(script));
  const log = await cluster.kubectl('-n', managerNamespace, 'logs', 'deploy/traffic-manager');
  const serving = log.split('\n').find((line) => line.includes('traffic-manager is serving')) ?? '{}';
  const tookMs = Date.parse((JSON.parse(serving) as { time: string }).time) - startedMs;
  const memory = await evaluate('require("fs").readFileSync("/proc/1/status", "utf8").match(/VmRSS:\\s+(\\d+)/)[1]');
  t.diagnostic(`from process to serving: ${tookMs.toFixed(0)} ms; resident ${(Number(memory) / 1024).toFixed(0)} MiB`);
  assert.ok(tookMs > 0 && tookMs < startLimitMs, `${tookMs} ms`);
});
