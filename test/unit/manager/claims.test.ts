import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { holderOf } from '../../../src/manager/service/claims.ts';
import { wire } from '../../../src/protocol/index.ts';
import { interceptSpec } from './messages.ts';

const { ACTIVE, WAITING, AGENT_ERROR } = wire.InterceptDispositionType;
type Spec = Parameters<typeof interceptSpec>[0];

const base: Spec = { containerPort: 8080, protocol: 'TCP' };
const ofAnn = { mechanism: 'http', headerFilters: { 'X-User': 'ann' } };
const ofBob = { mechanism: 'http', headerFilters: { 'x-user': 'bob' } };

function held(first: Spec, wanted: Spec, disposition = ACTIVE): string | undefined {
  const holder = create(wire.InterceptInfoSchema, {
    id: 'ann:web',
    spec: interceptSpec({ ...base, ...first }),
    disposition,
  });
  return holderOf([holder], interceptSpec({ ...base, ...wanted }))?.port;
}

test('a port without a filter is held by whoever diverts it or is about to', () => {
  assert.equal(held({}, {}), '8080/TCP');
  assert.equal(held({}, {}, WAITING), '8080/TCP');
  assert.equal(held({}, {}, AGENT_ERROR), undefined);
  assert.equal(held({}, { containerPort: 9090 }), undefined);
  assert.equal(held({}, { protocol: 'UDP' }), undefined);
  assert.equal(held({}, { namespace: 'elsewhere' }), undefined);
  assert.equal(held({}, { agent: 'other' }), undefined);
});

test('different filters share a port with each other and with the rest of it', () => {
  assert.equal(held(ofAnn, ofBob), undefined);
  assert.equal(held(ofAnn, {}), undefined);
  assert.equal(held({}, ofAnn), undefined);
});

test('the same filter is one, however its header is spelled', () => {
  assert.equal(held(ofAnn, { ...ofAnn, headerFilters: { 'x-user': 'ann' } }), '8080/TCP');
});

test('a wiretap takes nothing from anybody', () => {
  assert.equal(held({ wiretap: true }, {}), undefined);
  assert.equal(held({}, { wiretap: true }), undefined);
});

test('further ports are held as the first is', () => {
  assert.equal(held({ podPorts: ['9090:3001'] }, { containerPort: 9090 }), '9090/TCP');
  assert.equal(held({ containerPort: 53, protocol: 'UDP' }, { podPorts: ['53:5353/UDP'] }), '53/UDP');
});

test('a container that is taken away has nothing left for others, and cannot be taken twice', () => {
  const worker = { replace: true, containerPort: 0, containerName: 'worker' };
  assert.equal(held(worker, worker), 'worker');
  assert.equal(held(worker, { ...worker, containerName: 'other' }), undefined);
  assert.equal(held({ ...worker, podPorts: ['8080:8080'] }, ofAnn), '8080/TCP');
});
