import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kinds, type V1Deployment, type V1Pod, type V1ReplicaSet } from '../../../src/kube/index.ts';
import { trimOf } from '../../../src/manager/cluster/trim.ts';
import { deployment, podOf } from './fake-cluster.ts';

const bookkeeping = {
  annotations: { 'kubectl.kubernetes.io/last-applied-configuration': '{}', 'telepresence.io/agent-config': '{}' },
  managedFields: [{ manager: 'kubectl' }],
};
const bulk = { env: [{ name: 'A', value: 'b' }], volumeMounts: [{ name: 'v', mountPath: '/v' }] };

test('of a pod stays who it is, where it is and how it is', () => {
  const pod = podOf('web', '1');
  const whole = {
    ...pod,
    metadata: { ...pod.metadata, ...bookkeeping },
    spec: { ...pod.spec, volumes: [{ name: 'v' }], containers: [{ ...pod.spec?.containers[0], ...bulk }] },
    status: { ...pod.status, podIPs: [{ ip: '10.0.0.1' }], qosClass: 'Burstable' },
  };
  const kept = trimOf(kinds.pod)(whole) as V1Pod;
  assert.deepEqual(Object.keys(kept.metadata?.annotations ?? {}), ['telepresence.io/agent-config']);
  assert.deepEqual(kept.metadata?.ownerReferences, pod.metadata?.ownerReferences);
  assert.deepEqual(kept.spec, { containers: pod.spec?.containers });
  assert.deepEqual(kept.status, { phase: 'Running', podIPs: [{ ip: '10.0.0.1' }], conditions: pod.status?.conditions });
  assert.doesNotMatch(JSON.stringify(kept), /managedFields|last-applied/);
});

test('a workload keeps its template: agents are planned from it', () => {
  const whole = deployment({ name: 'web' });
  const kept = trimOf(kinds.deployment)({ ...whole, metadata: { ...whole.metadata, ...bookkeeping } }) as V1Deployment;
  assert.deepEqual(kept.spec, whole.spec);
  assert.doesNotMatch(JSON.stringify(kept), /managedFields|last-applied/);
});

test('a ReplicaSet keeps its template only where it is nobody’s', () => {
  const { spec } = deployment({ name: 'web' });
  const owner = { apiVersion: 'apps/v1', kind: 'Deployment', name: 'web', uid: 'u', controller: true };
  const keep = (metadata: V1ReplicaSet['metadata']): V1ReplicaSet =>
    trimOf(kinds.replicaSet)({ metadata, spec } as V1ReplicaSet) as V1ReplicaSet;
  assert.equal(keep({ name: 'web-abc', ownerReferences: [owner] }).spec, undefined);
  assert.equal(keep({ name: 'alone' }).spec, spec);
});

test('a node keeps its networks, and not the list of its images', () => {
  const node = { metadata: { name: 'n' }, spec: { podCIDR: '10.0.0.0/24' }, status: { images: [{ names: ['x'] }] } };
  assert.deepEqual(trimOf(kinds.node)(node as never), { metadata: { name: 'n' }, spec: { podCIDR: '10.0.0.0/24' } });
});
