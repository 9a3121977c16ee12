import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { AttachRequest } from '../../../src/connector/contract.ts';
import { planAttach } from '../../../src/connector/intercept/request.ts';
import { completeSpec, portsOf, readPodPort, toAttachment, toSpec } from '../../../src/connector/intercept/spec.ts';
import { wire } from '../../../src/protocol/index.ts';

const specOf = (request: Partial<AttachRequest>, name = 'web'): wire.InterceptSpec =>
  toSpec(planAttach({ workload: 'deployment/web', ports: [{ local: 3000 }], ...request }, 'shop'), 'ann@laptop', name);

const prepared = (
  more: MessageInitShape<typeof wire.PreparedInterceptSchema> = {},
): ReturnType<typeof create<typeof wire.PreparedInterceptSchema>> =>
  create(wire.PreparedInterceptSchema, {
    serviceUid: 'uid',
    serviceName: 'web',
    servicePortName: 'http',
    servicePort: 80,
    workloadKind: 'Deployment',
    protocol: 'TCP',
    containerName: 'server',
    containerPort: 8080,
    ...more,
  });

const message = (request: Partial<AttachRequest>): string => {
  try {
    specOf(request);
    return 'accepted';
  } catch (error) {
    assert.equal((error as { reason?: string }).reason, 'connector.bad-attach-request');
    return (error as Error).message;
  }
};

test('an intercept of a whole port has mechanism tcp and comes to loopback', () => {
  const spec = specOf({ ports: [{ remote: 'http', local: 3000 }] });
  assert.equal(spec.mechanism, 'tcp');
  assert.equal(spec.agent, 'web');
  assert.equal(spec.workloadKind, 'Deployment');
  assert.equal(spec.namespace, 'shop');
  assert.equal(spec.client, 'ann@laptop');
  assert.equal(spec.portIdentifier, 'http');
  assert.equal(`${spec.targetHost}:${spec.targetPort}`, '127.0.0.1:3000');
  assert.deepEqual([spec.wiretap, spec.replace, spec.noDefaultPort], [false, false, false]);
});

test('filters make it mechanism http, and are spelled as the public wire does', () => {
  const spec = specOf({
    filters: { headers: { 'x-user': 'ann' }, paths: [':path-prefix:/api'], methods: ['GET', 'POST'] },
  });
  assert.equal(spec.mechanism, 'http');
  assert.deepEqual(spec.headerFilters, { 'x-user': 'ann', ':method': '^(GET|POST)$' });
  assert.deepEqual(spec.pathFilters, [':path-prefix:/api']);
});

test('a wiretap is an intercept that says so', () => {
  assert.equal(specOf({ mode: 'wiretap' }).wiretap, true);
});

test('a replaced container is the target, with all its ports unless some are named', () => {
  const spec = specOf({ mode: 'replace', ports: [], container: 'server' });
  assert.deepEqual([spec.replace, spec.noDefaultPort], [true, true]);
  assert.equal(spec.portIdentifier, 'all');
  assert.equal(spec.containerName, 'server');
  assert.equal(specOf({ mode: 'replace', ports: [{ remote: '8080', local: 3000 }] }).portIdentifier, '8080');
});

test('the first port is the intercept’s, and the others are pod ports', () => {
  const spec = specOf({
    ports: [
      { remote: 'http', local: 3000 },
      { remote: 'admin', local: 3001 },
      { remote: '9000' },
      { remote: 'dns', local: 5353, protocol: 'UDP' },
    ],
  });
  assert.equal(spec.portIdentifier, 'http');
  assert.deepEqual(spec.podPorts, ['admin:3001', '9000', 'dns:5353/UDP']);
});

test('a UDP port carries its protocol in the identifier', () => {
  assert.equal(specOf({ ports: [{ remote: 'dns', local: 5353, protocol: 'UDP' }] }).portIdentifier, 'dns/UDP');
});

test('ports to the pod are local ports of the wire', () => {
  const toPod = [
    { port: 6379, protocol: 'TCP' },
    { port: 8125, protocol: 'UDP' },
  ] as const;
  assert.deepEqual(specOf({ toPod }).localPorts, ['6379', '8125/UDP']);
});

test('what the manager has prepared completes the specification', () => {
  const spec = completeSpec(specOf({ ports: [{ remote: '80' }] }), prepared());
  assert.equal(spec.portIdentifier, 'http/TCP');
  assert.equal(spec.targetPort, 8080);
  assert.deepEqual(
    [spec.serviceUid, spec.serviceName, spec.servicePort, spec.containerName, spec.containerPort],
    ['uid', 'web', 80, 'server', 8080],
  );
});

test('whose environment is wanted may be another container than the port’s', () => {
  assert.equal(completeSpec(specOf({ container: 'helper' }), prepared()).containerName, 'helper');
});

test('without a service the port is the container’s', () => {
  const found = prepared({ serviceUid: '', serviceName: '', servicePortName: '', servicePort: 0 });
  assert.equal(completeSpec(specOf({}), found).portIdentifier, '8080/TCP');
});

test('a replaced container gives the name, and its further ports come from the manager', () => {
  const spec = completeSpec(
    specOf({ mode: 'replace', ports: [] }),
    prepared({ podPorts: ['9090:9090/TCP', '5353:5353/UDP'] }),
  );
  assert.equal(spec.name, 'web/server');
  assert.deepEqual(
    portsOf(spec).map(({ localPort, protocol }) => `${localPort}/${protocol}`),
    ['8080/TCP', '9090/TCP', '5353/UDP'],
  );
});

test('an intercept of the manager’s is shown as it was asked for', () => {
  const spec = completeSpec(
    specOf({
      ports: [
        { remote: 'http', local: 3000 },
        { remote: 'admin', local: 3001 },
      ],
      filters: { headers: { 'x-user': 'ann' }, paths: ['/a'], methods: ['GET'] },
      toPod: [{ port: 6379, protocol: 'TCP' }],
    }),
    prepared(),
  );
  const disposition = wire.InterceptDispositionType.ACTIVE;
  assert.deepEqual(toAttachment(create(wire.InterceptInfoSchema, { spec, disposition })), {
    name: 'web',
    mode: 'intercept',
    workload: 'web',
    kind: 'Deployment',
    namespace: 'shop',
    container: 'server',
    localHost: '127.0.0.1',
    ports: [
      { remote: 'http', servicePort: 80, containerPort: 8080, localPort: 3000, protocol: 'TCP' },
      { remote: 'admin', servicePort: 0, containerPort: 0, localPort: 3001, protocol: 'TCP' },
    ],
    filters: { headers: { 'x-user': 'ann' }, paths: ['/a'], methods: ['GET'] },
    toPod: [{ port: 6379, protocol: 'TCP' }],
    state: 'active',
  });
});

test('a pod port is read in every form of the wire', () => {
  assert.deepEqual(readPodPort('http:3000'), { remote: 'http', containerPort: 0, localPort: 3000, protocol: 'TCP' });
  assert.deepEqual(readPodPort('53/UDP'), { remote: '53', containerPort: 53, localPort: 53, protocol: 'UDP' });
  assert.equal(readPodPort('a:b'), undefined);
});

test('another namespace gives the attachment a name that shows it', () => {
  assert.equal(planAttach({ workload: 'web', namespace: 'other' }, 'shop').name, 'web-other');
});

const refused: readonly [string, Partial<AttachRequest>, RegExp][] = [
  ['a workload of a strange kind', { workload: 'pod/web' }, /no workload/],
  ['a workload that is none', { workload: '../x' }, /no workload/],
  ['a namespace that is none', { namespace: 'Shop!' }, /name of a namespace/],
  ['a name with spaces', { name: 'a b' }, /name of an attachment/],
  ['a local port beyond the range', { ports: [{ local: 70_000 }] }, /no port of this machine/],
  ['a remote port that is no name', { ports: [{ remote: 'a b', local: 1 }] }, /neither the name nor the number/],
  ['a remote port beyond the range', { ports: [{ remote: '70000', local: 1 }] }, /neither the name nor the number/],
  ['a UDP port without a name', { ports: [{ local: 53, protocol: 'UDP' }] }, /name the UDP port/],
  ['several ports without names', { ports: [{ local: 1 }, { remote: 'b', local: 2 }] }, /each needs its name/],
  [
    'a further named port without a local one',
    { ports: [{ remote: 'a', local: 1 }, { remote: 'b' }] },
    /which port of this machine b comes to/,
  ],
  [
    'a port twice',
    {
      ports: [
        { remote: 'a', local: 1 },
        { remote: 'a', local: 2 },
      ],
    },
    /named twice/,
  ],
  [
    'a pod port twice',
    {
      toPod: [
        { port: 1, protocol: 'TCP' },
        { port: 1, protocol: 'TCP' },
      ],
    },
    /named twice/,
  ],
  ['a pod port where the program listens', { toPod: [{ port: 3000, protocol: 'TCP' }] }, /your program listens there/],
  ['an ingest with ports', { mode: 'ingest' }, /brings no requests/],
  ['an ingest with filters', { mode: 'ingest', ports: [], filters: { headers: { a: 'b' } } }, /brings no requests/],
  ['a filtered replacement', { mode: 'replace', filters: { paths: ['/x'] } }, /no filter can leave it requests/],
  [
    'filters for UDP',
    { ports: [{ remote: 'dns', local: 53, protocol: 'UDP' }], filters: { paths: ['/x'] } },
    /a UDP port has none/,
  ],
  ['a method in small letters', { filters: { methods: ['get'] } }, /no method/],
  ['a header that is none', { filters: { headers: { 'a b': 'c' } } }, /no name of a header/],
];

for (const [what, request, words] of refused) {
  test(`refused: ${what}`, () => {
    assert.match(message(request), words);
  });
}
