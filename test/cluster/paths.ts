import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const repositoryRoot = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

const isRoot = process.getuid?.() === 0;

/** What is slow to build is kept outside the tree and shared by all clones on a machine. */
export const cacheFolder =
  process.env['NEARFIELD_TEST_CACHE'] ??
  (isRoot ? '/var/cache/nearfield-test' : join(homedir(), '.cache/nearfield-test'));

/** The running cluster's files. Taken down with the cluster. */
export const stateFolder = process.env['NEARFIELD_TEST_STATE'] ?? '/var/lib/nearfield-test';

/** The two subnets of the cluster, and the link to its node. The workstation gets no route to the former. */
export const network = {
  namespace: 'nearfield-node',
  hostLink: 'nfnode0',
  nodeLink: 'nfnode1',
  hostAddress: '172.31.77.1',
  nodeAddress: '172.31.77.2',
  podSubnet: '192.168.189.0/24',
  serviceSubnet: '10.100.0.0/16',
  dnsAddress: '10.100.0.10',
} as const;
