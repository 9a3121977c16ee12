import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { Attachment, AttachRequest } from '../../../src/connector/index.ts';
import {
  attributeSchema,
  choosePorts,
  hasPorts,
  isOfSameKind,
  parseAttribute,
  readPort,
  toRequest,
} from '../../../src/extension/debug/attribute.ts';

const requestOf = (value: object, environment: object = {}, servicePorts: number[] = [8080]): AttachRequest => {
  const attribute = parseAttribute({ workload: 'deployment/web', ...value });
  const ports = choosePorts(attribute, environment, servicePorts);
  return toRequest(attribute, { namespace: 'shop', ports, mount: true });
};

test('everything that the attribute can say becomes a request', () => {
  const request = requestOf({
    mode: 'wiretap',
    ports: ['http:3000', '5353:5354/UDP', '9000'],
    headers: { 'x-user': 'ann' },
    pathEqual: ['/a'],
    pathPrefix: ['/b'],
    pathRegex: ['c$'],
    methods: ['GET'],
    container: 'server',
    toPod: [6379, '8125/UDP'],
  });
  assert.deepEqual(request, {
    mode: 'wiretap',
    workload: 'deployment/web',
    namespace: 'shop',
    service: undefined,
    container: 'server',
    ports: [
      { remote: 'http', local: 3000, protocol: 'TCP' },
      { remote: '5353', local: 5354, protocol: 'UDP' },
      { local: 9000, protocol: 'TCP' },
    ],
    filters: {
      headers: { 'x-user': 'ann' },
      methods: ['GET'],
      paths: [':path-equal:/a', ':path-prefix:/b', ':path-regex:c$'],
    },
    toPod: [
      { port: 6379, protocol: 'TCP' },
      { port: 8125, protocol: 'UDP' },
    ],
    mount: {},
  });
});

test('volumes are files here as the configuration says, else as the setting does', () => {
  assert.deepEqual(requestOf({}).mount, {});
  assert.equal(requestOf({ mount: false }).mount, undefined);
  assert.deepEqual(requestOf({ mount: '/tmp/web:ro' }).mount, { isReadOnly: true, folder: '/tmp/web' });
  assert.deepEqual(requestOf({ mount: 'true:ro' }).mount, { isReadOnly: true });
  assert.throws(() => requestOf({ mount: 7 }), /mount is true, false, or a folder/);
});

test('without ports an intercept comes to the port that the program is told, else to the service’s number', () => {
  assert.deepEqual(requestOf({}, { PORT: '3000' }).ports, [{ local: 3000 }]);
  assert.deepEqual(requestOf({}, { PORT: 'x' }).ports, [{ local: 8080 }]);
  assert.deepEqual(requestOf({}, {}, []).ports, [{ local: 8080 }]);
});

test('without ports a replaced container brings all, and an ingest none', () => {
  assert.deepEqual(requestOf({ mode: 'replace' }).ports, []);
  assert.deepEqual(requestOf({ mode: 'ingest' }, { PORT: '3000' }).ports, []);
});

for (const [what, value] of [
  ['an unknown key', { workload: 'web', header: {} }],
  ['an unknown mode', { workload: 'web', mode: 'steal' }],
  ['a port that is none', { workload: 'web', ports: ['http'] }],
  ['a workload that is none', { workload: '../web' }],
  ['a pod port that is none', { workload: 'web', toPod: ['x'] }],
] as const) {
  test(`the attribute is refused with ${what}`, () => {
    assert.throws(() => parseAttribute(value), { reason: 'extension.bad-launch-attribute' });
  });
}

const attachment: Attachment = {
  name: 'web',
  mode: 'intercept',
  workload: 'web',
  kind: 'Deployment',
  namespace: 'shop',
  container: 'server',
  localHost: '127.0.0.1',
  ports: [{ remote: 'http', servicePort: 80, containerPort: 8080, localPort: 3000, protocol: 'TCP' }],
  filters: { headers: { 'X-User': 'ann' }, paths: [], methods: [] },
  toPod: [],
  state: 'active',
};

test('a restarted session finds its own attachment again, whatever way its port is named', () => {
  for (const port of ['http:3000', '80:3000', '8080:3000', '3000']) {
    const request = requestOf({ ports: [port], headers: { 'x-user': 'ann' } });
    assert.equal(isOfSameKind(attachment, request), true);
    assert.equal(hasPorts(attachment, request), true, port);
  }
});

test('another filter, mode or port is another attachment', () => {
  const same = { ports: ['http:3000'], headers: { 'x-user': 'ann' } };
  assert.equal(isOfSameKind(attachment, requestOf({ ...same, headers: { 'x-user': 'bob' } })), false);
  assert.equal(isOfSameKind(attachment, requestOf({ ...same, mode: 'wiretap' })), false);
  assert.equal(isOfSameKind(attachment, requestOf({ ...same, container: 'other' })), false);
  assert.equal(hasPorts(attachment, requestOf({ ...same, ports: ['http:3001'] })), false);
  assert.equal(hasPorts(attachment, requestOf({ ...same, ports: ['http:3000', 'admin:3001'] })), false);
});

test('a port is read in each of its forms', () => {
  assert.deepEqual(readPort('http:3000'), { remote: 'http', local: 3000, protocol: 'TCP' });
  assert.deepEqual(readPort('53:5353/udp'), { remote: '53', local: 5353, protocol: 'UDP' });
});

test('the manifest’s schema and the code’s name the same keys, for launch and attach', () => {
  interface Contribution {
    readonly contributes: {
      readonly debuggers: readonly {
        readonly configurationAttributes: Record<
          'launch' | 'attach',
          { properties: { nearfield: { properties: object } } }
        >;
      }[];
    };
  }
  const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  const [debuggers] = (JSON.parse(text) as Contribution).contributes.debuggers;
  const keys = Object.keys(attributeSchema.entries).sort();
  for (const request of ['launch', 'attach'] as const) {
    const { nearfield } = debuggers?.configurationAttributes[request].properties ?? {};
    assert.deepEqual(Object.keys(nearfield?.properties ?? {}).sort(), keys);
  }
});

test('every key of the attribute is documented', () => {
  const text = readFileSync(new URL('../../../docs/launch-configurations.md', import.meta.url), 'utf8');
  const missing = Object.keys(attributeSchema.entries).filter((key) => !text.includes(`\`${key}`));
  assert.deepEqual(missing, []);
});
