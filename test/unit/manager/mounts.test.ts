import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { V1Container, V1Pod } from '../../../src/kube/index.ts';
import {
  agentMounts,
  mountRules,
  type PolicyRules,
  parsePolicies,
  plannedMounts,
} from '../../../src/manager/injector/mounts.ts';
import { injectionPatch } from '../../../src/manager/injector/patch.ts';
import { planSidecar } from '../../../src/manager/injector/plan.ts';
import { deployment, FakeCluster, planOptions, podOf, webContainer, webService } from './fake-cluster.ts';

const remote = 0;
const readOnly = 1;
const local = 2;
const ignored = 3;
const account = '/var/run/secrets/kubernetes.io/serviceaccount';

const container: V1Container = {
  ...webContainer,
  volumeMounts: [
    { name: 'config', mountPath: '/etc/app/', readOnly: true },
    { name: 'data', mountPath: '/data', subPathExpr: '$(POD)/x', mountPropagation: 'HostToContainer' },
    { name: 'scratch', mountPath: '/tmp/work' },
    { name: 'file', mountPath: '/etc/one.conf', subPath: 'one' },
  ],
};

function plannedBy(annotations: Record<string, string>, defaults?: PolicyRules): Record<string, number> {
  const cluster = new FakeCluster(deployment({ containers: [container], annotations }));
  return plannedMounts(container, mountRules(cluster.workload('web'), defaults));
}

test('a volume is shared as it is mounted, what is temporary stays local', () => {
  assert.deepEqual(plannedBy({}), {
    '/etc/app': readOnly,
    '/data': remote,
    '/tmp/work': local,
    '/etc/one.conf': remote,
    [account]: readOnly,
  });
});

test('annotations go before the defaults, the name of a volume before paths, and the longest path before others', () => {
  const planned = plannedBy(
    {
      'telepresence.io/inject-ignore-volume-mounts': '["file"]',
      'telepresence.io/mount-policies': JSON.stringify({
        '/etc': 'Ignore',
        '/etc/app': 'RemoteReadOnly',
        data: 'RemoteReadonly',
        file: 'Remote',
        '/var/run/secrets': 'Ignore',
        '/dat': 'Local',
      }),
    },
    { '/tmp': remote, data: local },
  );
  assert.deepEqual(planned, {
    '/etc/app': readOnly,
    '/data': readOnly,
    '/tmp/work': remote,
    '/etc/one.conf': ignored,
    [account]: ignored,
  });
});

test('annotations of older releases hide volumes, too', () => {
  const planned = plannedBy({ 'telepresence.getambassador.io/inject-ignore-volume-mounts': 'data, config' });
  assert.deepEqual([planned['/data'], planned['/etc/app'], planned['/etc/one.conf']], [ignored, ignored, remote]);
});

test('with policies that are none nothing is shared by mistake', () => {
  assert.equal(parsePolicies('{"/data":"Everything"}'), undefined);
  assert.equal(parsePolicies('nothing'), undefined);
  assert.throws(() => plannedBy({ 'telepresence.io/mount-policies': '[' }), { reason: 'manager.bad-annotation' });
});

test('the agent gets the volumes that are shared, below the container’s name', () => {
  const cluster = new FakeCluster(deployment({ containers: [container] }), webService());
  const config = planSidecar(cluster.view, cluster.workload('web'), planOptions);
  const volumeMounts = [
    ...(container.volumeMounts ?? []),
    { name: 'kube-api-access-x', mountPath: account, readOnly: true },
    { name: 'injected', mountPath: '/by/somebody/else' },
  ];
  const pod: V1Pod = { ...podOf('web', '1'), spec: { containers: [{ ...container, volumeMounts }] } };
  const mounts = agentMounts(pod, config);
  assert.deepEqual(mounts, [
    { name: 'config', mountPath: '/tel_app_mounts/server/etc/app', readOnly: true },
    { name: 'data', mountPath: '/tel_app_mounts/server/data', subPathExpr: '$(_TEL_APP_A_POD)/x' },
    { name: 'file', mountPath: '/tel_app_mounts/server/etc/one.conf', subPath: 'one' },
    { name: 'kube-api-access-x', mountPath: `/tel_app_mounts/server${account}`, readOnly: true },
  ]);
  const agent = injectionPatch(pod, { config, image: 'i', pullPolicy: 'Always' }).find(
    ({ path }) => path === '/spec/containers/-',
  );
  assert.deepEqual((agent?.value as V1Container | undefined)?.volumeMounts, mounts);
});
