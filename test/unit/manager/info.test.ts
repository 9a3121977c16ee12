import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import { formatIp, formatSubnet, parseSubnet, type Subnet } from '../../../src/base/index.ts';
import { clusterInfo, findServiceSubnets } from '../../../src/manager/cluster/info.ts';
import { makeCertificate } from '../../../src/manager/injector/certificate.ts';
import { parseOptions } from '../../../src/manager/manager.ts';
import { FakeCluster, podOf } from './fake-cluster.ts';
import { HandClock } from './hand-clock.ts';

const node = (...podCIDRs: string[]) => ({ kind: 'Node', metadata: { name: `n${podCIDRs[0]}` }, spec: { podCIDRs } });
const subnet = (text: string): Subnet => {
  const parsed = parseSubnet(text);
  assert.ok(parsed);
  return parsed;
};

function info(...objects: object[]) {
  const { view } = new FakeCluster(...objects);
  return clusterInfo({
    view,
    serviceSubnets: [subnet('10.96.0.0/16'), subnet('fd00::/112')],
    clusterDomain: 'cluster.local',
    podIp: '10.244.0.9',
    managerNamespace: 'ambassador',
    apiPort: 8081,
    wishes: {},
  });
}

const podSubnets = (...objects: object[]): string[] =>
  info(...objects).podSubnets.map(({ ip, mask }) => `${formatIp(ip)}/${mask}`);

test('the ranges of the nodes are the pods’ networks when the manager itself is inside one', () => {
  assert.deepEqual(podSubnets(node('10.244.0.0/24', 'fd01::/64'), node('10.244.1.0/24')), [
    '10.244.0.0/24',
    'fd01::/64',
    '10.244.1.0/24',
  ]);
});

test('where the nodes do not know, the networks of the pods seen are taken, without those of the host', () => {
  const pod = podOf('web', '1');
  const at = (ip: string, hostNetwork = false) => ({
    ...pod,
    metadata: { ...pod.metadata, name: ip },
    spec: { ...pod.spec, hostNetwork },
    status: { podIPs: [{ ip }] },
  });
  assert.deepEqual(
    podSubnets(node('192.168.0.0/24'), at('10.7.1.4'), at('10.7.1.5'), at('fd02::4'), at('172.16.0.1', true)),
    ['10.7.1.0/24', 'fd02::/64'],
  );
});

test('service ranges are address bytes followed by the length of the prefix', () => {
  const { serviceCidrs, serviceSubnet, dns } = info();
  assert.deepEqual([...(serviceCidrs[0] ?? [])], [10, 96, 0, 0, 16]);
  assert.equal(serviceCidrs[1]?.length, 17);
  assert.equal(serviceSubnet?.mask, 16);
  assert.equal(dns?.clusterDomain, 'cluster.local.');
});

test('the certificate is for the injector’s service, signed by its authority, and valid for a year', async () => {
  const clock = new HandClock();
  const made = await makeCertificate('ambassador', clock);
  const [leaf, authority] = [new X509Certificate(made.certificate), new X509Certificate(made.ca)];
  assert.equal(leaf.checkHost('agent-injector.ambassador.svc'), 'agent-injector.ambassador.svc');
  assert.equal(leaf.verify(authority.publicKey), true);
  assert.equal(leaf.ca, false);
  assert.equal(authority.ca, true);
  assert.ok(Date.parse(leaf.validFrom) < clock.wallMs());
  assert.ok(Date.parse(leaf.validTo) > clock.wallMs() + 364 * 24 * 3_600_000);
});

test('the environment has defaults, and says what is missing or wrong', () => {
  const good = { MANAGER_NAMESPACE: 'ambassador', POD_IP: '10.0.0.1', AGENT_IMAGE: 'x:1' };
  const parsed = parseOptions(good);
  assert.ok('SERVER_PORT' in parsed);
  assert.deepEqual([parsed.SERVER_PORT, parsed.MUTATOR_WEBHOOK_PORT], [8081, 8443]);
  assert.deepEqual(parseOptions({ ...good, SERVER_PORT: 'x' }), ['SERVER_PORT: is not a port']);
  assert.equal((parseOptions({}) as readonly string[]).length, 3);
});

test('where neither service ranges nor the default namespace may be seen, our own service tells the range', async () => {
  const own = { kind: 'Service', metadata: { namespace: 'ambassador', name: 'agent-injector' } };
  const { kube, view } = new FakeCluster({ ...own, ...{ spec: { clusterIP: '10.96.7.7' } } });
  const subnets = await findServiceSubnets(kube, view, 'ambassador');
  assert.deepEqual(subnets.map(formatSubnet), ['10.96.0.0/16']);
});
