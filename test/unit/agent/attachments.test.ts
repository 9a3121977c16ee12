import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { decide } from '../../../src/agent/port/diversion.ts';
import { parsePodPort } from '../../../src/agent/port/ports.ts';
import { type SidecarConfig, wire } from '../../../src/protocol/index.ts';
import { interceptSpec } from '../manager/messages.ts';
import { sidecarConfig } from './sidecar.ts';

const { ACTIVE, WAITING } = wire.InterceptDispositionType;
const intercept = (id: string, disposition: wire.InterceptDispositionType, spec = {}): wire.InterceptInfo =>
  create(wire.InterceptInfoSchema, {
    id,
    disposition,
    spec: interceptSpec(spec),
    clientSession: { sessionId: id.split(':')[0] ?? '' },
  });
const forUser = (name: string) => ({ mechanism: 'http', headerFilters: { 'x-user': name } });

test('a port is shared by filtered ones in their order, one for the rest, and any number of copies', () => {
  const { plans } = decide(sidecarConfig(), [
    intercept('bob:web', ACTIVE, forUser('bob')),
    intercept('cat:web', ACTIVE),
    intercept('ann:web', ACTIVE, forUser('ann')),
    intercept('dan:web', ACTIVE, { wiretap: true }),
    intercept('eve:web', ACTIVE, { wiretap: true }),
  ]);
  const plan = plans.get('9900/TCP');
  assert.deepEqual(
    plan?.filtered.map(({ interceptId }) => interceptId),
    ['bob:web', 'ann:web'],
  );
  assert.equal(plan.whole?.interceptId, 'cat:web');
  assert.deepEqual(
    plan.taps.map(({ interceptId }) => interceptId),
    ['dan:web', 'eve:web'],
  );
  const request = { method: 'GET', path: '/', header: (name: string) => (name === 'x-user' ? 'ann' : undefined) };
  assert.deepEqual(
    plan.filtered.map(({ matches }) => matches?.(request)),
    [false, true],
  );
});

test('only the same filters are in each other’s way, and copies never', () => {
  const { reviews } = decide(sidecarConfig(), [
    intercept('ann:web', ACTIVE, forUser('ann')),
    intercept('bob:web', WAITING, forUser('ann')),
    intercept('cat:web', WAITING, forUser('cat')),
    intercept('dan:web', WAITING),
    intercept('eve:web', WAITING),
    intercept('fay:web', WAITING, { wiretap: true, ...forUser('ann') }),
  ]);
  assert.deepEqual(
    reviews.map(({ id, conflict }) => [id, conflict]),
    [
      ['bob:web', 'ann:web'],
      ['cat:web', undefined],
      ['dan:web', undefined],
      ['eve:web', 'dan:web'],
      ['fay:web', undefined],
    ],
  );
});

for (const [what, spec, expected] of [
  ['no regular expression', { headerFilters: { 'x-user': '(' } }, /no regular expression/],
  ['a pattern that looks ahead', { headerFilters: { 'x-user': '^(?=a)' } }, /looks ahead/],
  ['a path pattern that looks back', { pathFilters: [':path-regex:(a)\\1'] }, /looks ahead/],
  ['a container that is not there', { containerPort: 0, containerName: 'none' }, /No match for container none/],
] as const) {
  test(`${what} is refused with its reason`, () => {
    const { plans, reviews } = decide(sidecarConfig(), [
      intercept('ann:web', WAITING, spec),
      intercept('bob:web', ACTIVE, spec),
    ]);
    assert.match(reviews[0]?.fault ?? '', expected);
    assert.equal(plans.size, 0);
  });
}

test('a pattern that would backtrack for years is tried in linear time', { timeout: 5_000 }, () => {
  const spec = { headerFilters: { 'x-user': '^(a+)+$' } };
  const { plans } = decide(sidecarConfig(), [intercept('ann:web', ACTIVE, spec)]);
  const request = { method: 'GET', path: '/', header: () => `${'a'.repeat(60)}b` };
  assert.equal(plans.get('9900/TCP')?.filtered[0]?.matches?.(request), false);
});

const twoPorts = (): SidecarConfig => {
  const config = sidecarConfig();
  const [container] = config.containers;
  return {
    ...config,
    containers: [
      {
        ...container,
        name: 'server',
        envPrefix: 'A_',
        intercepts: [
          { containerPortName: 'http', protocol: 'TCP', containerPort: 8080, agentPort: 9900 },
          { containerPortName: 'admin', protocol: 'TCP', containerPort: 9000, agentPort: 9901 },
          { protocol: 'UDP', containerPort: 8080, agentPort: 9900 },
        ],
      },
    ],
  };
};

test('further ports go to their own local ports, and stating them once more as intercepts is no conflict', () => {
  const first = { podPorts: ['admin:4000', '8080:5000/UDP'], targetPort: 3000 };
  const { plans } = decide(twoPorts(), [intercept('ann:web', ACTIVE, first)]);
  assert.deepEqual(
    [...plans].map(([key, { whole }]) => [key, whole?.targetPort]),
    [
      ['9900/TCP', 3000],
      ['9901/TCP', 4000],
      ['9900/UDP', 5000],
    ],
  );
  const { reviews } = decide(twoPorts(), [
    intercept('ann:web', ACTIVE, first),
    intercept('ann:web-9000-tcp', WAITING, { containerPort: 9000, targetPort: 4000 }),
    intercept('bob:web', WAITING, { containerPort: 9000 }),
  ]);
  assert.deepEqual(
    reviews.map(({ conflict }) => conflict),
    [undefined, 'ann:web'],
  );
});

test('a container without a port is accepted for its environment', () => {
  const { plans, reviews } = decide(sidecarConfig(), [
    intercept('ann:web/server', WAITING, { containerPort: 0, containerName: 'server', noDefaultPort: true }),
  ]);
  assert.deepEqual(
    [reviews[0]?.containerName, reviews[0]?.fault, reviews[0]?.conflict],
    ['server', undefined, undefined],
  );
  assert.equal(plans.size, 0);
});

test('a further port is a name or a number, a local port and a protocol', () => {
  assert.deepEqual(parsePodPort('8080'), { name: '8080', localPort: 8080, protocol: 'TCP' });
  assert.deepEqual(parsePodPort('dns:53/UDP'), { name: 'dns', localPort: 53, protocol: 'UDP' });
  for (const text of ['', 'name', '0', '1:70000', '1/SCTP', '1:2:3']) {
    assert.equal(parsePodPort(text), undefined, text);
  }
});
