import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isReason } from '../../../src/base/index.ts';
import { readWishes, wantsAgent } from '../../../src/manager/injector/annotations.ts';
import { portTargets } from '../../../src/manager/injector/targets.ts';
import { deployment, FakeCluster, podOf, service, webContainer } from './fake-cluster.ts';

const wishes = (annotations: Record<string, string>) => readWishes('web', annotations);

test('nothing is wished where nothing is said', () => {
  assert.deepEqual(wishes({}), {
    inject: undefined,
    serviceName: undefined,
    servicePorts: undefined,
    containerPorts: [],
    isManual: false,
    legacy: [],
  });
});

test('annotations of the prefix of before count, are named, and give way to those of now', () => {
  const found = wishes({
    'telepresence.getambassador.io/inject-traffic-agent': 'enabled',
    'telepresence.getambassador.io/inject-service-port': '80',
    'telepresence.io/inject-traffic-agent': 'disabled',
  });
  assert.deepEqual([found.inject, found.servicePorts, found.legacy.length], ['disabled', ['80'], 2]);
  const old = { 'telepresence.getambassador.io/inject-traffic-agent': 'enabled' };
  assert.ok(wantsAgent({ ...podOf('web', '1'), metadata: { annotations: old } }));
});

for (const [name, value] of [
  ['inject-traffic-agent', 'yes'],
  ['inject-container-ports', '8080;9090'],
  ['inject-service-ports', 'http/SCTP'],
]) {
  test(`${name} that says ${value} is refused by name`, () => {
    assert.throws(
      () => wishes({ [`telepresence.io/${name}`]: value ?? '' }),
      (error) => isReason(error, 'manager.bad-annotation') && String(error).includes(name ?? ''),
    );
  });
}

const ports = [
  { name: 'http', containerPort: 8080 },
  { name: 'admin', containerPort: 9090 },
];
const both = service('web', 'web', [
  { name: 'http', port: 80, targetPort: 'http' },
  { name: 'admin', port: 81, targetPort: 'admin' },
]);
const other = service('other', 'web', [{ name: 'other', port: 82, targetPort: 'http' }]);

function targets(annotations: Record<string, string>): [string, number, boolean][] {
  const cluster = new FakeCluster(deployment({ containers: [{ ...webContainer, ports }], annotations }), both, other);
  return portTargets(cluster.view, cluster.workload('web')).map((each) => [
    each.serviceName,
    each.containerPort,
    each.isWished,
  ]);
}

test('of the services only the named one, and of its ports only the listed ones', () => {
  const only = targets({
    'telepresence.io/inject-service-name': 'web',
    'telepresence.io/inject-service-ports': '81/TCP',
  });
  assert.deepEqual(only, [
    ['web', 9090, false],
    ['', 8080, false],
  ]);
});

test('container ports that are wished need neither a service nor a declaration', () => {
  const found = targets({
    'telepresence.io/inject-service-name': 'none',
    'telepresence.io/inject-container-ports': 'admin,7000,53/UDP',
  });
  assert.deepEqual(found, [
    ['', 8080, false],
    ['', 9090, true],
    ['', 7000, true],
    ['', 53, true],
  ]);
});
