import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type FilterFields,
  filterFault,
  filterKey,
  hasFilters,
  methodFilter,
  parseMethods,
  parsePathFilter,
  requestMatcher,
  serializeMethods,
  serializePathFilter,
} from '../../../src/protocol/index.ts';

const fields = (more: Partial<FilterFields>): FilterFields => ({ headerFilters: {}, pathFilters: [], ...more });

function wants(
  filters: Partial<FilterFields>,
  request: { method?: string; path?: string; headers?: Record<string, string> },
): boolean {
  return requestMatcher(fields(filters))({
    method: request.method ?? 'GET',
    path: request.path ?? '/',
    header: (name) => request.headers?.[name],
  });
}

test('a path filter has a marker of the public wire, and without one it is equal', () => {
  assert.deepEqual(parsePathFilter(':path-prefix:/api'), { kind: 'prefix', value: '/api' });
  assert.deepEqual(parsePathFilter(':path-regex:^/a:b$'), { kind: 'regex', value: '^/a:b$' });
  assert.deepEqual(parsePathFilter('/api'), { kind: 'equal', value: '/api' });
  assert.equal(serializePathFilter({ kind: 'equal', value: '/x' }), ':path-equal:/x');
});

test('no filter wants everything', () => {
  assert.equal(hasFilters(fields({})), false);
  assert.equal(wants({}, { path: '/any' }), true);
});

test('every header must match, whatever the case of its name', () => {
  const headerFilters = { 'X-User': 'ann', 'x-stage': 'dev' };
  assert.equal(wants({ headerFilters }, { headers: { 'x-user': 'ann', 'x-stage': 'dev' } }), true);
  assert.equal(wants({ headerFilters }, { headers: { 'x-user': 'ann' } }), false);
  assert.equal(wants({ headerFilters }, { headers: { 'x-user': 'Ann', 'x-stage': 'dev' } }), false);
});

test('a value with a special character is searched for as a pattern, and never in an absent header', () => {
  const headerFilters = { baggage: '(^|,)user=ann(,|$)' };
  assert.equal(wants({ headerFilters }, { headers: { baggage: 'a=b,user=ann' } }), true);
  assert.equal(wants({ headerFilters }, { headers: { baggage: 'user=anna' } }), false);
  assert.equal(wants({ headerFilters: { 'x-user': '.*' } }, {}), false);
});

test('one of the paths must match', () => {
  const pathFilters = [':path-prefix:/api/', ':path-equal:/health', ':path-regex:v[0-9]+$'];
  for (const path of ['/api/x', '/health', '/x/v12']) {
    assert.equal(wants({ pathFilters }, { path }), true, path);
  }
  for (const path of ['/api', '/healthy', '/v1/x']) {
    assert.equal(wants({ pathFilters }, { path }), false, path);
  }
});

test('methods travel as the pseudo-header, one as it is and several as a pattern', () => {
  for (const methods of [['GET'], ['GET', 'POST']]) {
    const headerFilters = { [methodFilter]: serializeMethods(methods) };
    assert.deepEqual(parseMethods(headerFilters[methodFilter] ?? ''), methods);
    assert.equal(wants({ headerFilters }, { method: 'GET' }), true);
    assert.equal(wants({ headerFilters }, { method: 'PUT' }), false);
  }
  assert.equal(parseMethods('G.*'), undefined);
});

test('filters that want the same have one key', () => {
  const one = fields({ headerFilters: { 'X-A': '1', b: '2' }, pathFilters: ['/x', ':path-prefix:/y'] });
  const two = fields({ headerFilters: { b: '2', 'x-a': '1' }, pathFilters: [':path-prefix:/y', ':path-equal:/x'] });
  assert.equal(filterKey(one), filterKey(two));
  assert.notEqual(filterKey(one), filterKey(fields({ ...one, pathFilters: ['/x'] })));
});

test('what is wrong with a filter is said in words', () => {
  assert.equal(filterFault(fields({ headerFilters: { 'x-user': 'ann' }, pathFilters: [':path-regex:a+'] })), undefined);
  assert.match(filterFault(fields({ headerFilters: { 'x user': 'ann' } })) ?? '', /“x user” is no name of a header/);
  assert.match(filterFault(fields({ headerFilters: { 'x-user': '' } })) ?? '', /empty/);
  assert.match(filterFault(fields({ headerFilters: { 'x-user': '(' } })) ?? '', /no regular expression/);
  assert.match(filterFault(fields({ pathFilters: [':path-prefix:api'] })) ?? '', /does not begin with a slash/);
  assert.match(filterFault(fields({ pathFilters: [':path-regex:['] })) ?? '', /no regular expression/);
});

test('a pattern that cannot be compiled wants nothing', () => {
  assert.equal(wants({ pathFilters: [':path-regex:['] }, { path: '/[' }), false);
});
