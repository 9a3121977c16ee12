import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Answer, decode } from 'dns-packet';
import { isAnswerTo, peekQuery } from '../../../../src/daemon/dns/peek.ts';
import { encodeName, parseRecords } from '../../../../src/daemon/dns/records.ts';
import { ask, createKit, question, recordBytes, textOf } from './support.ts';

const many = (count: number): Answer[] =>
  Array.from({ length: count }, (_, index) => ({ type: 'A', name: 'web.svc', ttl: 4, data: `10.96.0.${index}` }));

test('an asker that speaks EDNS is answered in EDNS, one that does not is not', async () => {
  const kit = createKit();
  kit.cluster.add('web.svc.', ...many(1));
  const opt = (await ask(kit, 'web.svc', 'A', { opt: { dnssecOk: true } })).additionals?.[0];
  assert.ok(opt?.type === 'OPT');
  assert.deepEqual([opt.name, opt.udpPayloadSize, opt.ednsVersion, opt.flag_do], ['.', 1_232, 0, true]);
  assert.deepEqual((await ask(kit, 'web.svc')).additionals, []);
});

test('an unknown version of EDNS is BADVERS, also for names that are cached', async () => {
  const kit = createKit();
  kit.cluster.add('web.svc.', ...many(1));
  for (let round = 0; round < 2; round++) {
    const answer = await ask(kit, 'web.svc', 'A', { opt: { version: 1 } });
    const opt = answer.additionals?.[0];
    assert.ok(opt?.type === 'OPT');
    assert.deepEqual([textOf(answer), opt.extendedRcode, opt.ednsVersion], ['NOERROR', 1, 0]);
    await ask(kit, 'web.svc');
  }
});

test('two OPT records in a question are a format error', async () => {
  const kit = createKit();
  const message = question('web.svc', 'A', { opt: {} });
  const opt = message.subarray(message.length - 11);
  const twice = Buffer.concat([message, opt]);
  twice.writeUInt16BE(2, 10);
  const reply = await kit.resolver.answer(twice, 'udp', '127.0.0.1');
  assert.ok(reply);
  assert.equal(textOf(decode(reply)), 'FORMERR');
});

const sizes: [records: number, payload: number | undefined, isCut: boolean][] = [
  // 25 bytes of header and question, 16 per record, 11 for OPT.
  [30, undefined, false],
  [31, undefined, true],
  [29, 512, false],
  [30, 512, true],
  [30, 100, true],
  [70, 4_096, false],
  [75, 4_096, true],
];
for (const [count, payload, isCut] of sizes) {
  test(`${count} records over UDP ${payload ? `for ${payload} bytes` : 'without EDNS'}: ${isCut ? 'cut' : 'whole'}`, async () => {
    const kit = createKit();
    kit.cluster.add('web.svc.', ...many(count));
    const options = payload === undefined ? {} : { opt: { udpPayloadSize: payload } };
    const answer = await ask(kit, 'web.svc', 'A', options);
    assert.deepEqual([answer.flag_tc, answer.answers?.length], [isCut, isCut ? 0 : count]);
    const whole = await ask(kit, 'web.svc', 'A', { ...options, transport: 'tcp' });
    assert.deepEqual([whole.flag_tc, whole.answers?.length], [false, count]);
  });
}

test('more than TCP can carry is as many records as fit', async () => {
  const kit = createKit();
  kit.cluster.add(
    'web.svc.',
    ...Array.from({ length: 250 }, (): Answer => ({ type: 'TXT', name: 'web.svc', ttl: 4, data: 'x'.repeat(255) })),
  );
  const answer = await ask(kit, 'web.svc', 'TXT', { transport: 'tcp' });
  assert.ok((answer.answers?.length ?? 0) >= 240);
});

test('records whose data has not the form of their type are left out', () => {
  const good = recordBytes([{ type: 'A', name: 'web.svc', ttl: 4, data: '10.96.0.1' }]);
  const wrong = (type: number, ...data: number[]): Buffer =>
    Buffer.concat([encodeName('web.svc.'), Buffer.of(0, type, 0, 1, 0, 0, 0, 4, 0, data.length), Buffer.from(data)]);
  const bad = [
    wrong(1, 10, 96, 0),
    wrong(28, 1, 2, 3, 4),
    wrong(5, 0xc0, 12),
    wrong(12, 3, 0x61),
    wrong(15, 0, 5, 0xc0, 12),
    wrong(33, 0, 0, 0, 0, 0, 80),
    wrong(16, 5, 0x61),
    wrong(16),
    wrong(41),
    wrong(46, 1),
  ];
  for (const each of bad) {
    assert.equal(parseRecords(Buffer.concat([each, good]), 'web.svc.').length, 1, each.toString('hex'));
  }
});

test('what cannot be read ends the records', () => {
  const good = recordBytes([{ type: 'A', name: 'web.svc', ttl: 4, data: '10.96.0.1' }]);
  assert.equal(parseRecords(Buffer.concat([good, good.subarray(0, -1)]), 'web.svc.').length, 1);
  assert.equal(parseRecords(Buffer.concat([good, Buffer.of(0xc0, 0)]), 'web.svc.').length, 1);
});

test('a TTL with the top bit set is none', () => {
  const record = Buffer.from(recordBytes([{ type: 'A', name: 'web.svc', ttl: 4, data: '10.96.0.1' }]));
  record.writeUInt32BE(0x8000_0001, record.length - 10);
  assert.equal(parseRecords(record, 'web.svc.')[0]?.ttlSeconds, 0);
});

const names: [description: string, bytes: number[], kind: string, name?: string][] = [
  ['the root', [0], 'query', '.'],
  ['a name', [3, 0x57, 0x65, 0x62, 0], 'query', 'web.'],
  ['a name with a blank', [3, 0x57, 0x20, 0x62, 0], 'query', undefined],
  ['a dot inside a label', [3, 0x57, 0x2e, 0x62, 0], 'query', undefined],
  ['a pointer', [0xc0, 12], 'malformed'],
  ['a label of 64', [64, ...Array(64).fill(0x61), 0], 'malformed'],
  [
    'a name of 255',
    [
      ...Array(4)
        .fill([62, ...Array(62).fill(0x61)])
        .flat(),
      1,
      0x61,
      0,
    ],
    'query',
    `${`${'a'.repeat(62)}.`.repeat(4)}a.`,
  ],
  [
    'a name of 256',
    [
      ...Array(4)
        .fill([62, ...Array(62).fill(0x61)])
        .flat(),
      2,
      0x61,
      0x61,
      0,
    ],
    'malformed',
  ],
];
for (const [description, bytes, kind, name] of names) {
  test(`a question for ${description} is ${kind}`, () => {
    const header = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    const peek = peekQuery(Buffer.from([...header, ...bytes, 0, 1, 0, 1]));
    assert.equal(peek.kind, kind);
    if (peek.kind === 'query') {
      assert.equal(peek.query.name, name);
    }
  });
}

test('an answer counts only for its own question', () => {
  const message = question('intranet.office.example');
  const of = (name: string, type = 'A'): Buffer => {
    const answer = question(name, type);
    answer[2] = 0x81;
    return answer;
  };
  assert.ok(isAnswerTo(message, of('intranet.office.example')));
  assert.ok(isAnswerTo(message, of('INTRANET.office.example')));
  assert.ok(!isAnswerTo(message, of('intranet.office.exampl3')));
  assert.ok(!isAnswerTo(message, of('intranet.office.example', 'AAAA')));
  assert.ok(!isAnswerTo(message, message));
  assert.ok(!isAnswerTo(message, of('x')));
  assert.ok(isAnswerTo(message, Buffer.of(0, 0, 0x81, 5, 0, 0, 0, 0, 0, 0, 0, 0)));
  assert.ok(!isAnswerTo(message, Buffer.of(0, 0, 0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0)));
  const update = Buffer.from(message);
  update[2] = 0x28;
  assert.ok(isAnswerTo(update, Buffer.of(0, 0, 0xa8, 0, 0, 0, 0, 0, 0, 0, 0, 0)));
  assert.ok(!isAnswerTo(update, Buffer.of(0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0)));
});
