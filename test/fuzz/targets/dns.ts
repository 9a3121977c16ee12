import assert from 'node:assert/strict';
import { isAnswerTo, peekQuery } from '../../../src/daemon/dns/peek.ts';
import { parseRecords } from '../../../src/daemon/dns/records.ts';
import { createKit, question, recordBytes } from '../../unit/daemon/dns/support.ts';
import type { Target } from '../target.ts';

const questionSeeds = [
  question('web.svc'),
  question('WEB.service-a-ns.svc.cluster.local', 'AAAA', { opt: {} }),
  question('printer'),
  question('db', 'ANY'),
  question('7.0.96.10.in-addr.arpa', 'PTR'),
  question('www.example.com', 'A', { opt: {} }),
];
const recordSeeds = [
  recordBytes([
    { type: 'CNAME', name: 'web.svc', ttl: 4, data: 'real.example' },
    { type: 'SRV', name: 'real.example', ttl: 4, data: { port: 80, target: 'x.y' } },
    { type: 'TXT', name: 'real.example', ttl: 4, data: ['a', 'b'] },
    { type: 'A', name: 'real.example', ttl: 4, data: '10.96.0.1' },
  ]),
];

/** The codec: questions, answers of an upstream and records of a cluster, in any bytes. */
export function openDnsCodecTarget(): Target {
  return {
    seeds: [...questionSeeds, ...recordSeeds],
    run(input, random) {
      const bytes = Buffer.from(input);
      const peek = peekQuery(bytes);
      assert.ok(['ignore', 'malformed', 'foreign', 'query'].includes(peek.kind));
      assert.equal(typeof isAnswerTo(random.pick(questionSeeds), bytes), 'boolean');
      assert.ok(parseRecords(input, 'web.svc.').length <= input.length / 10 + 1);
    },
    settle: () => undefined,
    close: () => undefined,
  };
}

/** The server behind its sockets: each question gets an answer that is its own, or none. */
export function openDnsServerTarget(): Target {
  const kit = createKit({ mappings: [{ name: 'db', aliasFor: 'postgres.service-b-ns' }] });
  kit.upstream.isSilent = true;
  kit.cluster.add('web.svc.', { type: 'A', name: 'web.svc', ttl: 4, data: '10.96.0.1' });
  let records: Uint8Array = recordSeeds[0] ?? new Uint8Array(0);
  let code = 0;
  const hostile = { ...kit.cluster.client(), lookup: async () => ({ rcode: code, records }) };
  let isHostile = false;
  return {
    seeds: [...questionSeeds, ...recordSeeds],
    async run(input, random) {
      if (random.once(20)) {
        records = input;
        code = random.below(24) - 2;
        isHostile = random.once(2);
        kit.resolver.configure([isHostile ? { ...hostile } : kit.cluster.client()]);
        return;
      }
      const message = Buffer.from(input);
      const before = Buffer.from(message);
      const transport = random.once(2) ? 'udp' : 'tcp';
      const reply = await kit.resolver.answer(message, transport, '127.0.0.1');
      assert.deepEqual(message, before, 'the question was written to');
      if (reply) {
        assert.ok(reply.length >= 12 && reply.length <= (transport === 'udp' ? 4_096 : 65_535));
        assert.deepEqual(reply.subarray(0, 2), before.subarray(0, 2));
        assert.ok((reply[2] ?? 0) & 0x80, 'not an answer');
      }
    },
    settle() {
      // The fakes remember what they were asked; the server must not.
      kit.upstream.messages.splice(0);
      kit.cluster.asked.splice(0);
    },
    close: () => undefined,
  };
}
