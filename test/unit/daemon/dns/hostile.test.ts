import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isAnswerTo, peekQuery } from '../../../../src/daemon/dns/peek.ts';
import { encodeName, parseRecords } from '../../../../src/daemon/dns/records.ts';
import { createKit, question, recordBytes } from './support.ts';

/** Numbers that look random and are the same every time (mulberry32). */
function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

const seeds = [
  'web.svc',
  'WEB.service-a-ns.svc.cluster.local',
  'printer',
  'db',
  '7.0.96.10.in-addr.arpa',
  'www.example.com',
];

function mutate(message: Buffer, random: (below: number) => number): Buffer {
  const copy = Buffer.from(message.subarray(0, random(6) === 0 ? random(message.length + 1) : message.length));
  for (let change = random(5); change > 0 && copy.length > 0; change--) {
    copy[random(copy.length)] = random(4) === 0 ? 0xc0 | random(64) : random(256);
  }
  return random(8) === 0 ? Buffer.concat([copy, Buffer.alloc(random(40), random(256))]) : copy;
}

test('whatever comes is answered or not, and nothing is thrown', async () => {
  const random = seeded(20_301);
  const kit = createKit({ mappings: [{ name: 'db', aliasFor: 'postgres.service-b-ns' }] });
  kit.upstream.isSilent = true;
  kit.cluster.add('web.svc.', { type: 'A', name: 'web.svc', ttl: 4, data: '10.96.0.1' });
  const pending: Promise<unknown>[] = [];
  let answered = 0;
  for (let round = 0; round < 20_000; round++) {
    const isNoise = round % 4 === 0;
    const seed = seeds[random(seeds.length)] ?? '';
    const message = isNoise
      ? Buffer.from(Array.from({ length: random(80) }, () => random(256)))
      : mutate(question(seed, ['A', 'AAAA', 'PTR', 'ANY'][random(4)], random(2) ? { opt: {} } : {}), random);
    const before = Buffer.from(message);
    const check = (reply: Buffer | undefined): void => {
      assert.deepEqual(message, before, 'the question was written to');
      if (reply) {
        answered++;
        assert.ok(reply.length >= 12 && reply.length <= 1_232 + 255, before.toString('hex'));
        assert.deepEqual(reply.subarray(0, 2), before.subarray(0, 2));
        assert.ok((reply[2] ?? 0) & 0x80);
      }
    };
    const reply = kit.resolver.answer(message, random(2) ? 'udp' : 'tcp', '127.0.0.1');
    if (reply instanceof Promise) {
      pending.push(reply.then(check));
    } else {
      check(reply);
    }
    if (pending.length >= 200) {
      await Promise.all(pending.splice(0));
    }
  }
  await Promise.all(pending);
  assert.ok(answered > 10_000);
});

test('whatever a cluster answers is read as far as it goes', async () => {
  const random = seeded(77);
  const good = recordBytes([
    { type: 'CNAME', name: 'web.svc', ttl: 4, data: 'real.example' },
    { type: 'SRV', name: 'real.example', ttl: 4, data: { port: 80, target: 'x.y' } },
    { type: 'TXT', name: 'real.example', ttl: 4, data: ['a', 'b'] },
    { type: 'A', name: 'real.example', ttl: 4, data: '10.96.0.1' },
  ]);
  const kit = createKit();
  for (let round = 0; round < 5_000; round++) {
    const records = mutate(Buffer.from(good), random);
    assert.ok(parseRecords(records, 'web.svc.').length <= 8);
    kit.resolver.configure([{ ...kit.cluster.client(), lookup: async () => ({ rcode: random(20) - 2, records }) }]);
    const reply = await kit.resolver.answer(question('web.svc'), 'tcp', '127.0.0.1');
    assert.ok(reply && reply.length >= 12);
  }
});

test('a lookup that throws is a failure, not a crash', async () => {
  const kit = createKit();
  const lookup = (): never => {
    throw new TypeError('nobody is there');
  };
  kit.resolver.configure([{ ...kit.cluster.client(), lookup }]);
  const reply = await kit.resolver.answer(question('web.svc.cluster.local'), 'udp', '127.0.0.1');
  assert.equal((reply?.[3] ?? 0) & 0x0f, 2);
});

test('answers from upstream of any form are compared without harm', () => {
  const random = seeded(5);
  for (let round = 0; round < 20_000; round++) {
    const message = mutate(question('intranet.office.example'), random);
    const answer = mutate(question('intranet.office.example'), random);
    assert.equal(typeof isAnswerTo(message, answer), 'boolean');
    assert.ok(peekQuery(answer).kind);
  }
});

test('names survive the way to the wire and back', () => {
  const random = seeded(11);
  const letters = 'abcdefghijklmnopqrstuvwxyz0123456789-_';
  for (let round = 0; round < 2_000; round++) {
    const labels = Array.from({ length: 1 + random(6) }, () =>
      Array.from({ length: 1 + random(30) }, () => letters[random(letters.length)]).join(''),
    );
    const name = `${labels.join('.')}.`;
    const header = Buffer.from([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    const peek = peekQuery(Buffer.concat([header, encodeName(name.toUpperCase()), Buffer.of(0, 28, 0, 1)]));
    assert.ok(peek.kind === 'query');
    assert.deepEqual([peek.query.name, peek.query.qtype], [name, 28]);
  }
});
