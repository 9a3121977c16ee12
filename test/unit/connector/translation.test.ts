import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatIp, parseIp, reverseName } from '../../../src/base/index.ts';
import { readSubnets, Translation } from '../../../src/connector/network/translation.ts';
import { addressRecord } from '../../support/fake-connector.ts';

const ip = (text: string): Uint8Array => parseIp(text) ?? assert.fail(text);
const [a, ptr, aaaa, txt] = [1, 12, 28, 16];

function translation({
  pool = '246.246.0.0/16',
  translated = ['10.1.0.0/16', 'fd00:1::/64'],
  never = ['10.1.9.9'],
} = {}) {
  const made = new Translation();
  made.plan = {
    translated: readSubnets(translated),
    neverProxy: readSubnets(never),
    virtualSubnets: readSubnets([pool, 'fd6e::/112']),
  };
  return made;
}

const virtualOf = (made: Translation, real: string): string => formatIp(made.toVirtual(ip(real)));
const realOf = (made: Translation, virtual: string): string | undefined => {
  const real = made.toReal(ip(virtual));
  return real && formatIp(real);
};

async function answer(made: Translation, qtype: number, records: Uint8Array, name = 'x.'): Promise<Buffer> {
  return Buffer.from((await made.lookup(name, qtype, async () => ({ rcode: 0, records }))).records);
}

test('an address keeps the one that stands in for it, and that leads back', () => {
  const made = translation();
  const virtual = virtualOf(made, '10.1.2.3');
  assert.match(virtual, /^246\.246\./);
  assert.notEqual(virtualOf(made, '10.1.2.4'), virtual);
  assert.equal(virtualOf(made, '10.1.2.3'), virtual);
  assert.equal(realOf(made, virtual), '10.1.2.3');
  assert.match(virtualOf(made, 'fd00:1::7'), /^fd6e::/);
});

test('the device’s own address, the first, stands in for nothing', () => {
  const made = translation();
  assert.equal(virtualOf(made, '10.1.2.3'), '246.246.0.1');
  assert.equal(realOf(made, '246.246.0.0'), undefined);
});

test('addresses that are routed as they are, or keep their own way, stay as they are', () => {
  const made = translation();
  assert.equal(virtualOf(made, '10.2.2.3'), '10.2.2.3');
  assert.equal(virtualOf(made, '10.1.9.9'), '10.1.9.9');
  assert.equal(realOf(made, '10.2.2.3'), '10.2.2.3');
});

test('when all are given out, whichever was longest unused is given away', () => {
  const made = translation({ pool: '246.246.0.0/29' });
  const given = Array.from({ length: 6 }, (_, index) => virtualOf(made, `10.1.0.${index + 1}`));
  assert.equal(new Set(given).size, 6);
  made.toReal(ip(given[0] ?? ''));
  assert.equal(virtualOf(made, '10.1.0.77'), given[1], 'the first was used meanwhile');
  assert.equal(realOf(made, given[1] ?? ''), '10.1.0.77');
  assert.equal(realOf(made, given[0] ?? ''), '10.1.0.1');
});

test('the addresses in answers are translated, everything else in them is untouched', async () => {
  const made = translation();
  const real = addressRecord('pod.ns.', a, '10.1.2.3') ?? assert.fail();
  const other = addressRecord('pod.ns.', a, '192.168.1.1') ?? assert.fail();
  const six = addressRecord('pod.ns.', aaaa, 'fd00:1::9') ?? assert.fail();
  // A text that looks like an address, and four bytes long.
  const text = Buffer.concat([Buffer.of(1, 0x78, 0, 0, txt, 0, 1, 0, 0, 0, 5, 0, 4), Buffer.from(ip('10.1.2.3'))]);
  const records = Buffer.concat([text, real, other, six]);
  const before = Buffer.from(records);
  const translated = await answer(made, a, records);
  assert.deepEqual(records, before, 'the answer that was given is not written to');
  assert.deepEqual(translated.subarray(0, text.length), text);
  const rest = translated.subarray(text.length);
  assert.equal(formatIp(rest.subarray(real.length - 4, real.length)), virtualOf(made, '10.1.2.3'));
  assert.equal(formatIp(rest.subarray(real.length + other.length - 4, real.length + other.length)), '192.168.1.1');
  assert.equal(formatIp(rest.subarray(-16)), virtualOf(made, 'fd00:1::9'));
});

test('records that cannot be read are passed on as they are', async () => {
  const made = translation();
  const whole = addressRecord('pod.ns.', a, '10.1.2.3') ?? assert.fail();
  for (let length = 0; length < whole.length; length++) {
    const cut = whole.subarray(0, length);
    assert.deepEqual(await answer(made, a, cut), Buffer.from(cut));
  }
  const compressed = Buffer.concat([Buffer.of(0xc0, 12), whole]);
  assert.deepEqual(await answer(made, a, compressed), compressed);
});

test('the name of an address that stands in is asked as that of the real one', async () => {
  const made = translation();
  const asked: string[] = [];
  const ask = async (name: string) => {
    asked.push(name);
    return { rcode: 0, records: new Uint8Array(0) };
  };
  await made.lookup(`${reverseName(made.toVirtual(ip('10.1.2.3')))}.`, ptr, ask);
  await made.lookup(`${reverseName(made.toVirtual(ip('fd00:1::7')))}.`, ptr, ask);
  await made.lookup('9.9.246.246.in-addr.arpa.', ptr, ask);
  assert.deepEqual(asked, ['3.2.1.10.in-addr.arpa.', `${reverseName(ip('fd00:1::7'))}.`, '9.9.246.246.in-addr.arpa.']);
});

test('another pool forgets what the one before gave out', () => {
  const made = translation();
  const virtual = made.toVirtual(ip('10.1.2.3'));
  made.plan = {
    translated: readSubnets(['10.1.0.0/16']),
    neverProxy: [],
    virtualSubnets: readSubnets(['246.1.0.0/16']),
  };
  assert.deepEqual(made.toReal(virtual), virtual, 'an address of the old pool is anybody’s again');
  assert.equal(virtualOf(made, '10.1.2.3'), '246.1.0.1');
});
