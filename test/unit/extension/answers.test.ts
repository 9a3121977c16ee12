import assert from 'node:assert/strict';
import { test } from 'node:test';
import { personalFilter, portText, readFilter, readPorts } from '../../../src/extension/commands/answers.ts';
import { isPattern } from '../../../src/protocol/index.ts';

const t = (text: string, ...values: (string | number)[]): string =>
  text.replace(/\{(\d)\}/g, (_, index: string) => String(values[Number(index)]));

test('the proposed filter is a person’s own, and is compared as it is', () => {
  assert.equal(personalFilter('ann'), 'x-nearfield-user=ann');
  assert.equal(personalFilter('ACME\\Ann.Smith'), 'x-nearfield-user=acme-ann-smith');
  assert.equal(personalFilter('***'), 'x-nearfield-user=me');
  const [, value = ''] = personalFilter('a.b+c').split('=');
  assert.equal(isPattern(value), false);
  assert.deepEqual(readFilter(personalFilter('ann'), t), {
    value: { headers: { 'x-nearfield-user': 'ann' }, paths: [], methods: [] },
  });
});

test('headers, paths and methods are told apart', () => {
  assert.deepEqual(readFilter('x-user=ann, X-Stage: dev, /api, GET, POST', t), {
    value: { headers: { 'x-user': 'ann', 'X-Stage': 'dev' }, paths: [':path-prefix:/api'], methods: ['GET', 'POST'] },
  });
});

for (const [text, fault] of [
  ['', 'Say which requests are meant, for example x-user=ann or /api'],
  ['api', '“api” is neither name=value nor a path nor a method'],
  ['x-user=', 'the value for header “x-user” is empty, too long or of several lines'],
  ['x-user=(', '“(” is no regular expression'],
] as const) {
  test(`the filter ${JSON.stringify(text)} is refused while it is typed`, () => {
    assert.deepEqual(readFilter(text, t), { fault });
  });
}

test('ports are read with and without the cluster’s side, and written as they were', () => {
  const read = readPorts('http:3000, 5353:53/udp, 8080', false, t);
  assert.ok('value' in read);
  assert.deepEqual(read.value.map(portText), ['http:3000', '5353:53/UDP', '8080']);
});

test('no port is only enough where all are meant', () => {
  assert.deepEqual(readPorts(' ', true, t), { value: [] });
  assert.deepEqual(readPorts('', false, t), { fault: 'Say which port of this machine, for example 3000' });
  assert.deepEqual(readPorts('70000', true, t), { fault: '“70000” is no port: write 3000, or http:3000' });
});
