import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isReason } from '../../../src/base/index.ts';
import { planSidecar } from '../../../src/manager/injector/plan.ts';
import { choosePort, portTargets } from '../../../src/manager/injector/targets.ts';
import { deployment, FakeCluster, planOptions, service, webContainer, webService } from './fake-cluster.ts';

const choose = (cluster: FakeCluster, port = '', named = ''): ReturnType<typeof choosePort> =>
  choosePort(portTargets(cluster.view, cluster.workload('web')), 'web', port, named);

const reasonOf = (reason: string) => (error: unknown) => isReason(error, reason);

test('the only service port needs no name', () => {
  const target = choose(new FakeCluster(deployment(), webService()));
  assert.deepEqual(
    [target.serviceName, target.container.name, target.containerPort, target.portName, target.protocol],
    ['web', 'server', 8080, 'http', 'TCP'],
  );
});

const both = {
  ...webContainer,
  ports: [
    { name: 'http', containerPort: 8080 },
    { name: 'admin', containerPort: 9090 },
  ],
};
const bothService = service('web', 'web', [
  { name: 'http', port: 80, targetPort: 'http' },
  { name: 'admin', port: 81, targetPort: 'admin' },
]);

for (const [identifier, expected] of [
  ['http', 8080],
  ['81', 9090],
  ['admin/TCP', 9090],
  ['80/tcp', 8080],
] as const) {
  test(`the identifier ${identifier} means container port ${expected}`, () => {
    const cluster = new FakeCluster(deployment({ containers: [both] }), bothService);
    assert.equal(choose(cluster, identifier).containerPort, expected);
  });
}

test('several ports without a name are ambiguous, and the error lists them', () => {
  const cluster = new FakeCluster(deployment({ containers: [both] }), bothService);
  assert.throws(
    () => choose(cluster),
    (error) => reasonOf('manager.ambiguous-port')(error) && /http, admin/.test(String(error)),
  );
});

test('two services that lead to one port are one choice', () => {
  const second = service('also', 'web', [{ port: 8000, targetPort: 'http' }]);
  assert.equal(choose(new FakeCluster(deployment(), webService(), second)).containerPort, 8080);
});

test('a port that nobody has is not found', () => {
  const cluster = new FakeCluster(deployment(), webService());
  assert.throws(() => choose(cluster, '99'), reasonOf('manager.no-service-port'));
  assert.throws(() => choose(cluster, '', 'other'), reasonOf('manager.no-service-port'));
  const bare = deployment({ containers: [{ name: 'server', image: 'web:1' }] });
  assert.throws(() => choose(new FakeCluster(bare)), reasonOf('manager.no-service-port'));
});

test('a service without a target port means the port itself', () => {
  const bare = service('web', 'web', [{ port: 8080 }]);
  const [target] = portTargets(new FakeCluster(deployment(), bare).view, {
    kind: 'Deployment',
    name: 'web',
    namespace: 'shop',
    object: deployment(),
  });
  assert.equal(target?.containerPort, 8080);
});

test('the plan gives every container port one agent port, however many services lead there', () => {
  const second = service('also', 'web', [{ port: 8000, targetPort: 'http' }]);
  const cluster = new FakeCluster(deployment({ containers: [both] }), bothService, second);
  const { containers } = planSidecar(cluster.view, cluster.workload('web'), planOptions);
  assert.deepEqual(
    containers[0]?.intercepts.map((port) => [port.serviceName, port.containerPort, port.agentPort]),
    [
      ['web', 8080, 9900],
      ['web', 9090, 9901],
      ['also', 8080, 9900],
    ],
  );
});

test('every container is in the plan with a prefix of its own, so that its variables can be told apart', () => {
  const containers = [webContainer, { name: 'log', image: 'log:1' }];
  const cluster = new FakeCluster(deployment({ containers }), webService());
  const plan = planSidecar(cluster.view, cluster.workload('web'), planOptions);
  assert.deepEqual(
    plan.containers.map(({ name, envPrefix, intercepts }) => [name, envPrefix, intercepts.length]),
    [
      ['server', 'A_', 1],
      ['log', 'B_', 0],
    ],
  );
});

for (const value of ['disabled', 'false']) {
  test(`a workload whose annotation says ${value} is left alone`, () => {
    const annotations = { 'telepresence.io/inject-traffic-agent': value };
    const cluster = new FakeCluster(deployment({ annotations }), webService());
    assert.throws(
      () => planSidecar(cluster.view, cluster.workload('web'), planOptions),
      reasonOf('manager.not-interceptable'),
    );
  });
}

test('a UDP port is taken over as a TCP port is', () => {
  const container = { ...webContainer, ports: [{ name: 'dns', containerPort: 53, protocol: 'UDP' }] };
  const dns = service('web', 'web', [{ name: 'dns', port: 53, targetPort: 'dns', protocol: 'UDP' }]);
  const cluster = new FakeCluster(deployment({ containers: [container] }), dns);
  const { containers } = planSidecar(cluster.view, cluster.workload('web'), planOptions);
  assert.deepEqual(
    containers[0]?.intercepts.map(({ containerPort, protocol }) => [containerPort, protocol]),
    [[53, 'UDP']],
  );
  assert.equal(choose(cluster).protocol, 'UDP');
});

test('of a TCP and a UDP port the TCP one is meant by whoever names none', () => {
  const ports = [
    { name: 'udp', containerPort: 9001, protocol: 'UDP' },
    { name: 'tcp', containerPort: 9000 },
  ];
  const load = service('web', 'web', [
    { name: 'udp', port: 9001, targetPort: 'udp', protocol: 'UDP' },
    { name: 'tcp', port: 9000, targetPort: 'tcp' },
  ]);
  assert.equal(choose(new FakeCluster(deployment({ containers: [{ ...webContainer, ports }] }), load)).portName, 'tcp');
});

test('ports that the application has declared are not the agent’s', () => {
  const ports = [
    { name: 'http', containerPort: 9900 },
    { name: 'admin', containerPort: 9901 },
  ];
  const cluster = new FakeCluster(deployment({ containers: [{ ...webContainer, ports }] }), bothService);
  const { containers } = planSidecar(cluster.view, cluster.workload('web'), planOptions);
  assert.deepEqual(
    containers[0]?.intercepts.map(({ agentPort }) => agentPort),
    [9902, 9903],
  );
  const health = new FakeCluster(
    deployment({ containers: [{ ...webContainer, ports: [{ name: 'http', containerPort: 9899 }] }] }),
    webService(),
  );
  assert.throws(
    () => planSidecar(health.view, health.workload('web'), planOptions),
    reasonOf('manager.agent-port-taken'),
  );
});

test('the traffic-manager does not intercept itself', () => {
  const cluster = new FakeCluster(deployment(), webService());
  assert.throws(
    () => planSidecar(cluster.view, cluster.workload('web'), { ...planOptions, managerHost: 'web.shop' }),
    reasonOf('manager.is-the-manager'),
  );
});
