import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLogger, type LogLine } from '../../../src/base/index.ts';
import { Guests } from '../../../src/protocol/transport/guests.ts';
import { HandClock } from '../manager/hand-clock.ts';

function opened() {
  const clock = new HandClock();
  const lines: LogLine[] = [];
  const log = createLogger({ sink: (line) => void lines.push(line), wallMs: () => 0 });
  return { clock, lines, guests: new Guests({ clock, log }) };
}

const many = 10_000;
const pod = { address: '10.0.0.9' };

test('one pod cannot take the connections or the calls of all', () => {
  const { guests } = opened();
  for (const take of [() => guests.session({ ...pod }), () => guests.stream({ ...pod }, 'calls')]) {
    const taken = Array.from({ length: many }, take).filter(Boolean);
    assert.ok(taken.length < 5_000);
    assert.ok(guests.session({ address: '10.0.0.10' }), 'another one is served');
    for (const leave of taken) {
      leave?.();
    }
    assert.ok(take(), 'what is given back is there again');
  }
});

test('forwarded connections are callers of their own, though all have one address', () => {
  const { guests } = opened();
  const clients = Array.from({ length: 1_000 }, () => ({ address: '127.0.0.1' }));
  assert.ok(clients.every((client) => guests.session(client) && guests.stream(client, 'calls')));
});

test('giving back twice is giving back once', () => {
  const { guests } = opened();
  const taken = Array.from({ length: many }, () => guests.stream(pod, 'tunnels')).filter(Boolean);
  taken[0]?.();
  taken[0]?.();
  assert.ok(guests.stream(pod, 'tunnels'));
  assert.equal(guests.stream(pod, 'tunnels'), undefined);
});

test('requests that are on their way do not fill the memory', async () => {
  const { guests } = opened();
  const megabyte = new Uint8Array(1024 * 1024);
  async function* slow() {
    yield megabyte;
    await new Promise(() => undefined);
  }
  let refused = 0;
  const open = Array.from({ length: 40 }, () => guests.metered(slow(), pod, () => refused++));
  const answers = await Promise.all(open.map((each) => each.next()));
  assert.equal(answers.filter(({ done }) => !done).length, 32);
  assert.equal(refused, 8);
});

test('a flood of refusals is one line, and the next one says how many there were', () => {
  const { guests, lines, clock } = opened();
  for (let number = 0; number < 100; number++) {
    guests.note('too much', pod);
  }
  clock.advance(60_000);
  guests.note('too much', pod);
  assert.deepEqual(
    lines.map(({ fields }) => [fields['what'], fields['address'], fields['more']]),
    [
      ['too much', '10.0.0.9', 0],
      ['too much', '10.0.0.9', 99],
    ],
  );
});

test('what one API server brings is hundreds of callers of their own, and not everything there is', () => {
  const { guests } = opened();
  const clients = Array.from({ length: many }, () => ({ address: '', broughtBy: '10.0.0.1' }));
  const taken = clients.filter((client) => guests.session(client));
  assert.ok(taken.length >= 1_000 && taken.length < 5_000);
  assert.ok(taken.every((client) => guests.stream(client, 'calls')));
  assert.ok(guests.session({ address: '', broughtBy: '10.0.0.2' }), 'another one is served');
  assert.ok(guests.session({ address: '10.0.0.1' }), 'whoever speaks for themselves there, too');
});

test('pods that say they are API servers leave room for whoever comes by themselves', () => {
  const { guests } = opened();
  for (let pod = 1; pod < 10; pod++) {
    for (let count = 0; count < 2_000; count++) {
      guests.session({ address: '', broughtBy: `10.0.1.${pod}` });
    }
  }
  const others = Array.from({ length: 2_000 }, (_, index) => ({ address: `10.1.${index >> 8}.${index & 255}` }));
  assert.ok(others.every((other) => guests.session(other)));
});

test('one of those that an API server brings cannot take the calls of the others', () => {
  const { guests } = opened();
  const greedy = { address: '', broughtBy: '10.0.0.1' };
  const taken = Array.from({ length: many }, () => guests.stream(greedy, 'calls')).filter(Boolean);
  assert.ok(taken.length < 5_000);
  assert.ok(guests.stream({ address: '', broughtBy: '10.0.0.1' }, 'calls'));
});
