import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ChunkList,
  formatIp,
  formatJsonLine,
  formatSubnet,
  fromPlainError,
  isReason,
  NearfieldError,
  parseIp,
  parseSubnet,
  Scope,
  subnetContains,
  subnetsOverlap,
  toPlainError,
} from '../../../src/base/index.ts';

const ips: [string, string | undefined][] = [
  ['10.1.2.3', '10.1.2.3'],
  ['256.1.1.1', undefined],
  ['01.2.3.4', undefined],
  ['fd00:0:0:0:0:0:0:1', 'fd00::1'],
  ['::', '::'],
  ['1::2::3', undefined],
  ['::ffff:10.0.0.1', '::ffff:a00:1'],
  ['1:2:3:4:5:6:7', undefined],
  ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
];

for (const [text, expected] of ips) {
  test(`the address ${text} reads as ${expected ?? 'no address'}`, () => {
    const ip = parseIp(text);
    assert.equal(ip && formatIp(ip), expected);
  });
}

test('a subnet clears its host bits and knows its members', () => {
  const subnet = parseSubnet('10.100.7.9/16');
  const inside = parseIp('10.100.225.66');
  const outside = parseIp('10.101.0.1');
  assert.ok(subnet && inside && outside);
  assert.equal(formatSubnet(subnet), '10.100.0.0/16');
  assert.equal(subnetContains(subnet, inside), true);
  assert.equal(subnetContains(subnet, outside), false);
  assert.equal(parseSubnet('10.0.0.0/33'), undefined);
});

test('subnets overlap when one contains the other, in either order', () => {
  const wide = parseSubnet('10.0.0.0/8');
  const narrow = parseSubnet('10.100.0.0/16');
  const other = parseSubnet('192.168.0.0/16');
  assert.ok(wide && narrow && other);
  assert.deepEqual(
    [subnetsOverlap(wide, narrow), subnetsOverlap(narrow, wide), subnetsOverlap(wide, other)],
    [true, true, false],
  );
});

test('a scope disposes in reverse, goes on after a failure, and disposes late arrivals at once', async () => {
  const log: string[] = [];
  const scope = new Scope((error) => log.push(String(error)));
  scope.defer(() => void log.push('first'));
  scope.defer(() => {
    throw new RangeError('broken');
  });
  scope.defer(() => void log.push('last'));
  await scope.dispose();
  scope.defer(() => void log.push('late'));
  assert.deepEqual(log, ['last', 'RangeError: broken', 'first', 'late']);
});

test('an error crosses a process boundary with its reason and hint, without its cause', () => {
  const error = new NearfieldError('no', {
    code: 'not_found',
    reason: 'a.b',
    hint: 'do',
    cause: new RangeError('secret'),
  });
  const back = fromPlainError(JSON.parse(JSON.stringify(toPlainError(error))));
  assert.deepEqual(
    [back.message, back.code, back.reason, back.hint, back.cause],
    ['no', 'not_found', 'a.b', 'do', undefined],
  );
  assert.equal(isReason(back, 'a.b'), true);
});

test('a chunk list joins only what spans chunks', () => {
  const list = new ChunkList();
  list.push(Uint8Array.of(1, 2));
  list.push(Uint8Array.of(3));
  assert.equal(list.peek(4), undefined);
  assert.deepEqual([...(list.take(3) ?? [])], [1, 2, 3]);
  assert.equal(list.length, 0);
});

test('a name that a stranger chose moves no cursor and fills no disk', () => {
  const name = `\u001b[2J\u009b2J\u202e\u2028\u007f${'x'.repeat(1_000_000)}`;
  const line = formatJsonLine({ wallMs: 0, level: 'info', scope: '', message: 'client arrived', fields: { name } });
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be in it
  assert.doesNotMatch(line, /[\x00-\x1f\x7f-\x9f\u2028\u202e]/);
  assert.ok(line.length < 5_000);
  assert.ok(JSON.parse(line).name.startsWith(name.slice(0, 100)));
});
