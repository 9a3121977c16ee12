import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, type Socket as TcpSocket } from 'node:net';
import { after, test } from 'node:test';
import { type Answer, decode, encode } from 'dns-packet';
import { silentLogger, systemClock } from '../../src/base/index.ts';
import { DnsServer } from '../../src/daemon/dns/server.ts';
import { frame, MessageReader } from '../../src/daemon/dns/stream.ts';
import { UpstreamResolver } from '../../src/daemon/dns/upstream.ts';
import { FakeCluster, FakeUpstream, question, textOf } from '../unit/daemon/dns/support.ts';
import { HandClock } from '../unit/manager/hand-clock.ts';

const endings: (() => void)[] = [];
after(() => {
  for (const end of endings) {
    end();
  }
});

const a = (name: string, data: string): Answer => ({ type: 'A', name, ttl: 4, data });

async function serve(cluster: FakeCluster, upstream = new FakeUpstream(), ipv6 = false): Promise<[DnsServer, number]> {
  const server = new DnsServer({ clock: systemClock, log: silentLogger, upstream });
  endings.push(() => server.dispose());
  server.configure([cluster.client()]);
  return [server, await server.listen({ ipv6 })];
}

/** Sends messages on one connection at once, and resolves with so many answers. */
async function overTcp(
  port: number,
  messages: readonly Buffer[],
  expected: number,
  host = '127.0.0.1',
): Promise<Buffer[]> {
  const socket = connect({ host, port });
  endings.push(() => socket.destroy());
  const reader = new MessageReader();
  const answers: Buffer[] = [];
  socket.end(Buffer.concat(messages.map((message) => frame(message))));
  for await (const chunk of socket) {
    reader.push(chunk);
    for (let answer = reader.read(); answer; answer = reader.read()) {
      answers.push(answer);
    }
  }
  assert.equal(answers.length, expected);
  return answers;
}

async function overUdp(port: number, message: Buffer, type: 'udp4' | 'udp6' = 'udp4'): Promise<Buffer> {
  const socket = createSocket(type);
  socket.send(message, port, type === 'udp4' ? '127.0.0.1' : '::1');
  const [answer] = await once(socket, 'message', { signal: AbortSignal.timeout(5_000) });
  socket.close();
  return answer;
}

test('one port answers over UDP and TCP, on both stacks', async () => {
  const cluster = new FakeCluster().add('web.svc.', a('web.svc', '10.96.0.1'));
  const [, port] = await serve(cluster, undefined, true);
  const expected = 'NOERROR | web.svc A 10.96.0.1 4';
  assert.equal(textOf(decode(await overUdp(port, question('web.svc')))), expected);
  assert.equal(textOf(decode(await overUdp(port, question('web.svc'), 'udp6'))), expected);
  for (const host of ['127.0.0.1', '::1']) {
    const [answer] = await overTcp(port, [question('web.svc')], 1, host);
    assert.ok(answer);
    assert.equal(textOf(decode(answer)), expected);
  }
});

test('questions on one connection are answered as their answers come, all of them, also after its end', async () => {
  const cluster = new FakeCluster();
  const gate = Promise.withResolvers<void>();
  cluster.gate = (name) => (name.startsWith('slow') ? gate.promise : Promise.resolve());
  const names = ['slow.svc', ...Array.from({ length: 200 }, (_, index) => `fast${index}.svc`)];
  for (const name of names) {
    cluster.add(`${name}.`, a(name, '10.96.0.1'));
  }
  const [, port] = await serve(cluster);
  cluster.gate = async (name) => {
    if (name.startsWith('slow')) {
      await gate.promise;
    } else if (name.startsWith('fast199')) {
      gate.resolve();
    }
  };
  const answers = await overTcp(
    port,
    names.map((name, id) => question(name, 'A', { id })),
    names.length,
  );
  assert.deepEqual(new Set(answers.map((answer) => answer.readUInt16BE(0))), new Set(names.keys()));
  assert.notEqual(answers[0]?.readUInt16BE(0), 0);
});

test('a connection in pieces is read; a message of nothing and noise harm nobody', async () => {
  const cluster = new FakeCluster().add('web.svc.', a('web.svc', '10.96.0.1'));
  const [server, port] = await serve(cluster);
  const socket = connect({ host: '127.0.0.1', port, noDelay: true });
  endings.push(() => socket.destroy());
  const bytes = Buffer.concat([frame(Buffer.alloc(0)), frame(Buffer.from('noise')), frame(question('web.svc'))]);
  for (const byte of bytes) {
    socket.write(Buffer.of(byte));
    await new Promise(setImmediate);
  }
  const [chunk] = await once(socket, 'data');
  assert.equal(textOf(decode(chunk.subarray(2))), 'NOERROR | web.svc A 10.96.0.1 4');
  const noise = createSocket('udp4');
  for (let length = 0; length < 64; length++) {
    noise.send(Buffer.alloc(length, length * 37), port, '127.0.0.1');
  }
  assert.equal(textOf(decode(await overUdp(port, question('web.svc')))), 'NOERROR | web.svc A 10.96.0.1 4');
  noise.close();
  assert.ok(server.stats.asked >= 2);
});

test('a hundred connections are served, the next is ended', async () => {
  const [, port] = await serve(new FakeCluster());
  const open = await Promise.all(
    Array.from({ length: 100 }, async () => {
      const socket = connect({ host: '127.0.0.1', port });
      endings.push(() => socket.destroy());
      await once(socket, 'connect');
      return socket;
    }),
  );
  const extra = connect({ host: '127.0.0.1', port });
  extra.on('error', () => undefined);
  await new Promise((resolve) => extra.once('close', resolve));
  assert.ok(open.every(({ destroyed }) => !destroyed));
});

test('a connection on which nothing is asked ends; half a question is nothing', async () => {
  const clock = new HandClock();
  const server = new DnsServer({ clock, log: silentLogger, upstream: new FakeUpstream() });
  endings.push(() => server.dispose());
  server.configure([new FakeCluster().client()]);
  const socket = connect({ host: '127.0.0.1', port: await server.listen() });
  endings.push(() => socket.destroy());
  socket.on('error', () => undefined);
  socket.write(frame(question('none.svc.cluster.local')));
  await once(socket, 'data');
  clock.advance(9_999);
  socket.write(frame(question('web.svc')).subarray(0, 10));
  await new Promise(setImmediate);
  assert.equal(socket.closed, false);
  const closed = new Promise((resolve) => socket.once('close', resolve));
  clock.advance(1);
  await closed;
  assert.equal(clock.timers, 0);
});

test('who does not read answers is not read from: no answers pile up', async () => {
  const texts = Array.from(
    { length: 60 },
    (): Answer => ({ type: 'TXT', name: 'web.svc', ttl: 4, data: 'x'.repeat(250) }),
  );
  const [server, port] = await serve(new FakeCluster().add('web.svc.', ...texts));
  const socket = connect({ host: '127.0.0.1', port });
  endings.push(() => socket.destroy());
  socket.on('error', () => undefined);
  const messages = Buffer.concat(Array.from({ length: 10_000 }, () => frame(question('web.svc', 'TXT'))));
  socket.write(messages);
  let asked = -1;
  while (asked !== server.stats.asked || asked === 0) {
    asked = server.stats.asked;
    await overUdp(port, question('web.svc', 'TXT'));
    await new Promise((resolve) => setTimeout(resolve, 100));
    asked++;
  }
  assert.ok(server.stats.asked < 2_000, `${server.stats.asked} were read`);
});

/** A resolver upstream on a loopback address: answers what `reply` makes of a question, over UDP and TCP. */
async function upstreamServer(
  reply: (message: Buffer, send: (answer: Buffer) => void, from: { port: number; address: string }) => void,
  address = '127.0.0.1',
): Promise<{ readonly port: number; readonly udp: Socket; readonly connections: Set<TcpSocket>; accepted: number }> {
  const udp = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  udp.bind(0, address);
  await once(udp, 'listening');
  const { port } = udp.address();
  udp.on('message', (message, from) => reply(message, (answer) => udp.send(answer, from.port, from.address), from));
  const connections = new Set<TcpSocket>();
  const state = { port, udp, connections, accepted: 0 };
  const tcp = createServer((socket) => {
    state.accepted++;
    connections.add(socket);
    socket.on('error', () => undefined);
    const reader = new MessageReader();
    socket.on('data', (chunk) => {
      reader.push(chunk);
      for (let message = reader.read(); message; message = reader.read()) {
        reply(message, (answer) => socket.write(frame(answer)), { port: socket.remotePort ?? 0, address });
      }
    });
  });
  tcp.listen(port, address);
  await once(tcp, 'listening');
  endings.push(
    () => udp.close(),
    () => tcp.close(),
    () => {
      for (const socket of connections) {
        socket.destroy();
      }
    },
  );
  return state;
}

function resolverTo(port: number, addresses = ['127.0.0.1'], sourcePorts: readonly number[] = []): UpstreamResolver {
  const upstream = new UpstreamResolver({ addresses, port, clock: systemClock, log: silentLogger, sourcePorts });
  endings.push(() => upstream.dispose());
  return upstream;
}

function answerTo(message: Buffer, data: string): Buffer {
  const { id, questions } = decode(message);
  const name = questions?.[0]?.name ?? '';
  return encode({ type: 'response', id: id ?? 0, flags: 0x180, questions: questions ?? [], answers: [a(name, data)] });
}

test('upstream is asked with ids and ports that change, and answers with the asker’s id', async () => {
  const ids = new Set<number>();
  const ports = new Set<number>();
  const { port } = await upstreamServer((message, send, from) => {
    ids.add(message.readUInt16BE(0));
    ports.add(from.port);
    send(answerTo(message, '172.16.0.9'));
  });
  const upstream = resolverTo(port, undefined, [30_601, 30_602, 30_603]);
  for (let round = 0; round < 40; round++) {
    const answer = await upstream.forward(question('intranet.office.example', 'A', { id: 5 }), 'udp');
    assert.equal(answer.readUInt16BE(0), 5);
    assert.equal(textOf(decode(answer)), 'NOERROR | intranet.office.example A 172.16.0.9 4');
  }
  assert.ok(ids.size > 30);
  assert.deepEqual([...ports].sort(), [30_601, 30_602, 30_603]);
});

test('answers that are not to the question, or from somebody else, do not count', async () => {
  const { port } = await upstreamServer((message, send, from) => {
    const forged = answerTo(message, '203.0.113.66');
    const stranger = createSocket('udp4');
    stranger.send(forged, from.port, from.address, () => stranger.close());
    const otherId = Buffer.from(forged);
    otherId.writeUInt16BE((message.readUInt16BE(0) + 1) & 0xffff, 0);
    send(otherId);
    send(encode({ ...decode(forged), questions: [{ name: 'other.example', type: 'A', class: 'IN' }] }));
    setTimeout(() => send(answerTo(message, '172.16.0.9')), 50);
  });
  const answer = await resolverTo(port).forward(question('intranet.office.example'), 'udp');
  assert.equal(textOf(decode(answer)), 'NOERROR | intranet.office.example A 172.16.0.9 4');
});

test('where nobody listens the next resolver answers, and without a next it fails fast', async () => {
  const { port } = await upstreamServer((message, send) => send(answerTo(message, '172.16.0.9')), '127.0.0.2');
  const started = performance.now();
  for (const transport of ['udp', 'tcp'] as const) {
    const answer = await resolverTo(port, ['127.0.0.3', '127.0.0.2']).forward(question('a.example'), transport);
    assert.equal(textOf(decode(answer)), 'NOERROR | a.example A 172.16.0.9 4');
    await assert.rejects(resolverTo(port, ['127.0.0.3']).forward(question('a.example'), transport));
  }
  assert.ok(performance.now() - started < 900);
});

test('a source port that somebody holds is passed over', async () => {
  const { port } = await upstreamServer((message, send) => send(answerTo(message, '172.16.0.9')));
  const held = createSocket('udp4');
  held.bind(30_611, '0.0.0.0');
  await once(held, 'listening');
  const heldTcp = createServer().listen(30_611, '0.0.0.0');
  await once(heldTcp, 'listening');
  endings.push(
    () => held.close(),
    () => heldTcp.close(),
  );
  for (const transport of ['udp', 'tcp'] as const) {
    const answer = await resolverTo(port, undefined, [30_611, 30_612]).forward(question('a.example'), transport);
    assert.equal(textOf(decode(answer)), 'NOERROR | a.example A 172.16.0.9 4');
  }
});

test('questions over TCP share a connection, and survive its end', async () => {
  const state = await upstreamServer((message, send) => send(answerTo(message, '172.16.0.9')));
  const upstream = resolverTo(state.port, undefined, [30_621, 30_622]);
  const ask = async (): Promise<string> => textOf(decode(await upstream.forward(question('a.example'), 'tcp')));
  const expected = 'NOERROR | a.example A 172.16.0.9 4';
  assert.deepEqual(await Promise.all(Array.from({ length: 20 }, ask)), Array(20).fill(expected));
  assert.equal(state.accepted, 1);
  for (const socket of state.connections) {
    socket.end();
  }
  assert.equal(await ask(), expected);
  assert.equal(state.accepted, 2);
});

test('closed connections leave no source port behind that cannot be used again', async () => {
  const state = await upstreamServer((message, send) => send(answerTo(message, '172.16.0.9')));
  for (let round = 0; round < 6; round++) {
    const upstream = resolverTo(state.port, undefined, [30_631]);
    await upstream.forward(question('a.example'), 'tcp');
    upstream.dispose();
  }
  assert.equal(state.accepted, 6);
});

test('an upstream over IPv6 is asked over IPv6', async () => {
  const { port } = await upstreamServer((message, send) => send(answerTo(message, '172.16.0.9')), '::1');
  for (const transport of ['udp', 'tcp'] as const) {
    const answer = await resolverTo(port, ['::1']).forward(question('a.example'), transport);
    assert.equal(textOf(decode(answer)), 'NOERROR | a.example A 172.16.0.9 4');
  }
});
