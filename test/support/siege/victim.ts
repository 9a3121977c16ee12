/**
 * The manager's and the agent's servers in a process of their own, around a cluster in memory: what strangers send to
 * them must not end it, fill it or hold it up. Prints its ports, and its memory whenever it is asked.
 */
import { createInterface } from 'node:readline';
import { createLogger, formatJsonLine, systemClock } from '../../../src/base/index.ts';
import { makeCertificate } from '../../../src/manager/injector/certificate.ts';
import { createWebhook } from '../../../src/manager/injector/webhook.ts';
import { createGrpcServer } from '../../../src/protocol/transport/index.ts';
import { deployment, FakeCluster, webService } from '../../unit/manager/fake-cluster.ts';
import { fakeManager } from '../../unit/manager/fake-manager.ts';

const lines: string[] = [];
const log = createLogger({ sink: (line) => void lines.push(formatJsonLine(line)), wallMs: () => Date.now() });
const cluster = new FakeCluster(deployment(), webService());
const { router, routes } = fakeManager(cluster);
const server = createGrpcServer({
  clock: systemClock,
  service: 'manager',
  log,
  routes,
  acceptTunnel: (...call) => router.accept(...call),
  mux: router.mux,
});
const grpc = await server.listen(0, '0.0.0.0');
const https = grpc + 1;
const webhook = createWebhook({
  ...{ port: https, clock: systemClock, log },
  certificate: await makeCertificate('ambassador', systemClock),
  patch: async () => [],
  mayUninstall: async () => false,
  uninstall: async () => process.exit(3),
});
await webhook.listen();
console.log(JSON.stringify({ grpc, https }));
for await (const _ of createInterface({ input: process.stdin })) {
  (globalThis as { gc?: () => void }).gc?.();
  const { heapUsed, external, rss } = process.memoryUsage();
  console.log(JSON.stringify({ heldMb: (heapUsed + external) / 1e6, rssMb: rss / 1e6, lines: lines.splice(0) }));
}
