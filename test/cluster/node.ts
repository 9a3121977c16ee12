import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { network, stateFolder } from './paths.ts';
import { createPki, writeKubeconfig } from './pki.ts';
import { processIsAlive, processNames, startProcess, stopProcess, stopShims } from './processes.ts';
import { run, succeeds, waitFor } from './shell.ts';

const { namespace, hostLink, nodeLink, hostAddress, nodeAddress, podSubnet, serviceSubnet, dnsAddress } = network;
const at = (...parts: string[]): string => join(stateFolder, ...parts);

export const kubeconfigPath = (): string => at('admin.kubeconfig');
export const containerdSocket = (): string => at('containerd.sock');

/** The node's own network namespace, joined to the workstation by one link and no route to pods or services. */
export async function createNetwork(): Promise<void> {
  await run('ip', ['netns', 'add', namespace]);
  await run('ip', ['link', 'add', hostLink, 'type', 'veth', 'peer', 'name', nodeLink, 'netns', namespace]);
  await run('ip', ['address', 'add', `${hostAddress}/30`, 'dev', hostLink]);
  await run('ip', ['link', 'set', hostLink, 'up']);
  await inNode('ip', 'address', 'add', `${nodeAddress}/30`, 'dev', nodeLink);
  await inNode('ip', 'link', 'set', nodeLink, 'up');
  await inNode('ip', 'link', 'set', 'lo', 'up');
  await inNode('ip', 'route', 'add', 'default', 'via', hostAddress);
  await inNode('sysctl', '-qw', 'net.ipv4.ip_forward=1');
  await inNode('sysctl', '-qw', 'net.bridge.bridge-nf-call-iptables=1').catch(() => undefined);
}

export function inNode(...command: string[]): Promise<string> {
  return run('nsenter', [`--net=/run/netns/${namespace}`, ...command]);
}

export async function writeConfiguration(): Promise<void> {
  for (const folder of ['logs', 'pids', 'etcd', 'kubelet', 'cni', 'containerd']) {
    await mkdir(at(folder), { recursive: true });
  }
  await createPki(at('pki'), [
    {
      name: 'apiserver',
      subject: '/CN=kube-apiserver',
      alternativeNames: `IP:127.0.0.1,IP:${nodeAddress},IP:${hostAddress},IP:10.100.0.1,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost`,
    },
    { name: 'admin', subject: '/O=system:masters/CN=admin', alternativeNames: 'DNS:admin' },
    {
      name: 'kubelet',
      subject: '/O=system:nodes/CN=system:node:node1',
      alternativeNames: `DNS:node1,IP:${nodeAddress}`,
    },
  ]);
  const server = `https://${nodeAddress}:6443`;
  await writeKubeconfig(kubeconfigPath(), at('pki'), 'admin', server);
  await writeKubeconfig(at('kubelet.kubeconfig'), at('pki'), 'kubelet', server);
  await writeFile(at('resolv.conf'), 'nameserver 127.0.0.1\n');
  await writeFile(at('containerd.toml'), containerdConfiguration());
  await writeFile(at('cni/10-nearfield.conflist'), JSON.stringify(cniConfiguration()));
  await writeFile(at('kubelet.yaml'), JSON.stringify(kubeletConfiguration()));
}

/** `restrict_oom_score_adj`: without CAP_SYS_RESOURCE every sandbox fails otherwise. */
function containerdConfiguration(): string {
  return `version = 2
root = "${at('containerd/root')}"
state = "${at('containerd/state')}"
[grpc]
  address = "${containerdSocket()}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/nearfield/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "${at('cni')}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
`;
}

function cniConfiguration(): object {
  const ipam = {
    type: 'host-local',
    ranges: [[{ subnet: podSubnet }]],
    routes: [{ dst: '0.0.0.0/0' }],
    dataDir: at('cni-ipam'),
  };
  const bridge = { type: 'bridge', bridge: 'cni0', isGateway: true, ipMasq: true, hairpinMode: true, ipam };
  return {
    cniVersion: '0.4.0',
    name: 'nearfield',
    plugins: [bridge, { type: 'portmap', capabilities: { portMappings: true } }],
  };
}

function kubeletConfiguration(): object {
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    address: nodeAddress,
    clusterDNS: [dnsAddress],
    clusterDomain: 'cluster.local',
    cgroupDriver: 'cgroupfs',
    failSwapOn: false,
    failCgroupV1: false,
    containerRuntimeEndpoint: `unix://${containerdSocket()}`,
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: at('pki/ca.crt') },
    },
    authorization: { mode: 'Webhook' },
    serverTLSBootstrap: false,
    resolvConf: at('resolv.conf'),
    evictionHard: {
      'memory.available': '100Mi',
      'nodefs.available': '1%',
      'imagefs.available': '1%',
      'nodefs.inodesFree': '1%',
    },
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
    syncFrequency: '5s',
  };
}

export async function startRuntime(): Promise<void> {
  await startProcess('containerd', 'containerd', ['-c', at('containerd.toml')]);
  await ready('containerd', 20_000, () => succeeds('ctr', ['--address', containerdSocket(), 'version']));
}

/** Starts the control plane and the kubelet; resolves when the node is Ready. */
export async function startKubernetes(binary: string): Promise<void> {
  const pki = (file: string): string => at('pki', file);
  await startProcess('etcd', binary, [
    'etcd',
    `--data-dir=${at('etcd')}`,
    '--listen-client-urls=http://127.0.0.1:2379',
    '--advertise-client-urls=http://127.0.0.1:2379',
    '--listen-peer-urls=http://127.0.0.1:2380',
    '--unsafe-no-fsync',
    '--log-level=warn',
  ]);
  await startProcess('kube-apiserver', binary, [
    'kube-apiserver',
    '--etcd-servers=http://127.0.0.1:2379',
    '--secure-port=6443',
    '--bind-address=0.0.0.0',
    `--advertise-address=${nodeAddress}`,
    `--service-cluster-ip-range=${serviceSubnet}`,
    `--tls-cert-file=${pki('apiserver.crt')}`,
    `--tls-private-key-file=${pki('apiserver.key')}`,
    `--client-ca-file=${pki('ca.crt')}`,
    `--service-account-key-file=${pki('sa.pub')}`,
    `--service-account-signing-key-file=${pki('sa.key')}`,
    '--service-account-issuer=https://kubernetes.default.svc',
    '--authorization-mode=Node,RBAC',
    '--allow-privileged=true',
    `--kubelet-client-certificate=${pki('admin.crt')}`,
    `--kubelet-client-key=${pki('admin.key')}`,
    // Without it exec and port-forward look the node's name up in DNS.
    '--kubelet-preferred-address-types=InternalIP',
    '--enable-admission-plugins=NodeRestriction',
    '--profiling=false',
  ]);
  await ready('kube-apiserver', 60_000, async () => (await kubectl(binary, 'get', '--raw=/readyz')) === 'ok');
  // Their own limits are for clusters that others use: a thousand workloads would take five minutes.
  const leaderless = [
    ...['--leader-elect=false', '--bind-address=127.0.0.1'],
    ...['--kube-api-qps=200', '--kube-api-burst=400'],
  ];
  await startProcess('kube-controller-manager', binary, [
    'kube-controller-manager',
    `--kubeconfig=${kubeconfigPath()}`,
    `--service-account-private-key-file=${pki('sa.key')}`,
    `--root-ca-file=${pki('ca.crt')}`,
    '--use-service-account-credentials=true',
    `--cluster-cidr=${podSubnet}`,
    '--allocate-node-cidrs=true',
    '--node-cidr-mask-size=24',
    `--service-cluster-ip-range=${serviceSubnet}`,
    '--profiling=false',
    ...leaderless,
  ]);
  await startProcess('kube-scheduler', binary, ['kube-scheduler', `--kubeconfig=${kubeconfigPath()}`, ...leaderless]);
  await startProcess('kubelet', binary, [
    'kubelet',
    `--kubeconfig=${at('kubelet.kubeconfig')}`,
    `--config=${at('kubelet.yaml')}`,
    '--hostname-override=node1',
    `--node-ip=${nodeAddress}`,
    `--root-dir=${at('kubelet')}`,
    `--tls-cert-file=${pki('kubelet.crt')}`,
    `--tls-private-key-file=${pki('kubelet.key')}`,
  ]);
  await startProcess('kube-proxy', binary, [
    'kube-proxy',
    `--kubeconfig=${kubeconfigPath()}`,
    `--cluster-cidr=${podSubnet}`,
    '--hostname-override=node1',
    '--proxy-mode=nftables',
    '--conntrack-max-per-core=0',
    '--conntrack-tcp-timeout-established=0',
    '--conntrack-tcp-timeout-close-wait=0',
  ]);
  await ready('kubelet', 90_000, async () =>
    /\bTrue\b/.test(
      await kubectl(binary, 'get', 'node', 'node1', '-o', 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'),
    ),
  );
}

export function kubectl(binary: string, ...args: string[]): Promise<string> {
  return run(binary, ['kubectl', `--kubeconfig=${kubeconfigPath()}`, ...args]);
}

/** Waits for a component; a failure carries the end of its log, because that is what one looks for next. */
async function ready(name: string, limitMs: number, check: () => Promise<boolean>): Promise<void> {
  try {
    await waitFor(`${name} being ready`, limitMs, async () => {
      if (!(await processIsAlive(name))) {
        throw new Error(`${name} ended`);
      }
      return (await check()) ? true : undefined;
    });
  } catch (cause) {
    const log = await readFile(at('logs', `${name}.log`), 'utf8').catch(() => '');
    throw new Error(`${name} did not become ready. The end of its log:\n${log.split('\n').slice(-15).join('\n')}`, {
      cause,
    });
  }
}

/** Takes everything down and leaves nothing; needs no memory of how far a start had come. */
export async function destroyNode(): Promise<void> {
  await Promise.all((await processNames()).filter((each) => each !== 'containerd').map(stopProcess));
  await stopShims();
  await stopProcess('containerd');
  await removePodNamespaces();
  const mounts = (await readFile('/proc/mounts', 'utf8'))
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((mount) => mount.startsWith(`${stateFolder}/`));
  for (const mount of mounts.reverse()) {
    await run('umount', ['--lazy', mount]).catch(() => undefined);
  }
  await run('ip', ['link', 'delete', hostLink]).catch(() => undefined);
  await run('ip', ['netns', 'delete', namespace]).catch(() => undefined);
  await rm(stateFolder, { recursive: true, force: true, maxRetries: 5 });
}

const cniResults = '/var/lib/cni/results';

/** The plugins keep a record of each pod's network namespace: those of our network are removed with it. */
async function removePodNamespaces(): Promise<void> {
  for (const name of (await readdir(cniResults).catch(() => [])).filter((each) => each.startsWith('nearfield-'))) {
    const path = join(cniResults, name);
    const namespaces = (await readFile(path, 'utf8')).matchAll(/"sandbox":"[^"]*\/netns\/(cni-[\w-]+)"/g);
    for (const [, namespace] of namespaces) {
      await run('ip', ['netns', 'delete', namespace ?? '']).catch(() => undefined);
    }
    await rm(path, { force: true });
  }
}

export async function nodeIsHealthy(binary: string): Promise<boolean> {
  const names = await processNames();
  const alive = await Promise.all(names.map(processIsAlive));
  return (
    names.length >= 7 &&
    alive.every(Boolean) &&
    succeeds(binary, ['kubectl', `--kubeconfig=${kubeconfigPath()}`, 'get', '--raw=/readyz'])
  );
}
