import assert from 'node:assert/strict';
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { afterEach, test } from 'node:test';
import type { Clock } from '../../../../src/base/index.ts';
import { systemClock } from '../../../../src/base/index.ts';
import { SocksServer } from '../../../../src/connector/proxy/socks-server.ts';
import type { Answer } from '../../../support/fake-tunnels.ts';
import { HandClock } from '../../manager/hand-clock.ts';
import { type Bench, log, openBench, Program } from './bench.ts';

const limit = { timeout: 10_000 };
const credentials = { user: 'nearfield', password: 'secret' };
const greeting = [5, 1, 2] as const;
const rightPassword = [1, 9, 'nearfield', 6, 'secret'] as const;
const toServiceA = [5, 1, 0, 3, 9, 'service-a', 0x1f, 0x90] as const;

let bench: Bench | undefined;
let server: SocksServer | undefined;
let local: Server | undefined;
const udp: UdpSocket[] = [];

afterEach(async () => {
  server?.dispose();
  local?.close();
  local = undefined;
  for (const socket of udp.splice(0)) {
    socket.close();
  }
  await bench?.close();
});

async function start(answer?: () => Answer, options: { clock?: Clock; isOpen?: boolean } = {}) {
  const made = await openBench(answer, options.clock);
  bench = made;
  const socks = new SocksServer({
    clock: options.clock ?? systemClock,
    log,
    targets: made.targets,
    credentials: options.isOpen ? undefined : credentials,
  });
  server = socks;
  return { bench: made, port: await socks.listen() };
}

async function signedIn(port: number): Promise<Program> {
  const program = new Program(port);
  program.write(...greeting);
  assert.deepEqual(await program.read(2), Buffer.of(5, 2));
  program.write(...rightPassword);
  assert.deepEqual(await program.read(2), Buffer.of(1, 0));
  return program;
}

const helloThenEcho = (): Answer => ({
  kind: 'program',
  onSocket(socket) {
    socket.write('hello ');
    socket.on('data', (chunk) => socket.write(chunk));
    socket.on('end', () => socket.end(' bye'));
  },
});

test('a program reaches a service by name; both directions and the half-close pass', limit, async () => {
  const { bench: made, port } = await start(helloThenEcho);
  const program = await signedIn(port);
  program.write(...toServiceA);
  assert.deepEqual(await program.read(10), Buffer.of(5, 0, 0, 1, 0, 0, 0, 0, 0, 0));
  assert.deepEqual(made.tunnels.asked, ['tcp 10.100.0.10:8080']);
  assert.equal((await program.read(6)).toString(), 'hello ');
  program.write('world');
  assert.equal((await program.read(5)).toString(), 'world');
  program.socket.end();
  assert.equal((await program.rest()).toString(), ' bye');
});

test('everything may come in one piece, and what comes ahead reaches the far end', limit, async () => {
  const { port } = await start(helloThenEcho);
  const program = new Program(port);
  program.write(...greeting, ...rightPassword, ...toServiceA, 'ahead');
  const heard = await program.read(2 + 2 + 10 + 11);
  assert.match(heard.subarray(14).toString(), /^hello ahead$/);
});

test('everything may come byte by byte', limit, async () => {
  const { port } = await start(helloThenEcho);
  const program = new Program(port);
  for (const part of [...greeting, ...rightPassword, ...toServiceA]) {
    for (const byte of Buffer.from(typeof part === 'number' ? Buffer.of(part) : part)) {
      program.write(byte);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  assert.match((await program.read(20)).subarray(14).toString(), /^hello $/);
});

test('without the password nobody comes through', limit, async () => {
  const { bench: made, port } = await start();
  const withoutMethod = new Program(port);
  withoutMethod.write(5, 1, 0);
  assert.deepEqual(await withoutMethod.rest(), Buffer.of(5, 0xff));
  for (const wrong of ['secreT', 'x', '']) {
    const program = new Program(port);
    program.write(...greeting, 1, 9, 'nearfield', wrong.length, wrong, ...toServiceA);
    assert.deepEqual(await program.rest(), Buffer.of(5, 2, 1, 1));
  }
  assert.deepEqual(made.tunnels.asked, []);
});

test('where no password is asked for, none is needed', limit, async () => {
  const { port } = await start(helloThenEcho, { isOpen: true });
  const program = new Program(port);
  program.write(5, 2, 2, 0, ...toServiceA);
  assert.match((await program.read(18)).subarray(12).toString(), /^hello $/);
});

for (const [result, reply] of [
  ['refused', 5],
  ['unreachable', 4],
  ['timeout', 6],
  ['prohibited', 2],
] as const) {
  test(`${result} in the cluster is reply ${reply}, and the end`, limit, async () => {
    const { port } = await start(() => ({ kind: 'fail', result }));
    const program = await signedIn(port);
    program.write(...toServiceA);
    assert.deepEqual(await program.rest(), Buffer.of(5, reply, 0, 1, 0, 0, 0, 0, 0, 0));
  });
}

test('a name that nobody knows is an unreachable host; a cluster that is away is a failure', limit, async () => {
  const { port } = await start();
  const unknown = await signedIn(port);
  unknown.write(5, 1, 0, 3, 6, 'nobody', 0, 80);
  assert.equal((await unknown.rest())[1], 4);
  const broken = await signedIn(port);
  broken.write(5, 1, 0, 3, 19, 'broken.service-a-ns', 0, 80);
  assert.equal((await broken.rest())[1], 1);
});

test('what is not the cluster’s is dialled from this machine', limit, async () => {
  const { bench: made, port } = await start();
  const target = createServer((socket) => socket.on('error', () => undefined).end('from here'));
  local = target;
  target.listen(0, '127.0.0.1');
  await once(target, 'listening');
  const address = target.address();
  const targetPort = typeof address === 'object' && address ? address.port : 0;
  const program = await signedIn(port);
  program.write(5, 1, 0, 3, 24, 'this-machine.example.org', targetPort >>> 8, targetPort & 0xff);
  assert.equal((await program.rest()).subarray(10).toString(), 'from here');
  assert.deepEqual(made.tunnels.asked, []);
});

test('a reset in the cluster is a reset here', limit, async () => {
  const { port } = await start(() => ({
    kind: 'program',
    onSocket(socket) {
      socket.write('partial');
      socket.once('data', () => socket.resetAndDestroy());
    },
  }));
  const program = await signedIn(port);
  const failed = once(program.socket, 'error');
  program.write(...toServiceA);
  await program.read(17);
  program.write('now');
  const [error] = (await failed) as [NodeJS.ErrnoException];
  assert.equal(error.code, 'ECONNRESET');
});

test('BIND and unknown commands are not supported', limit, async () => {
  const { port } = await start();
  for (const command of [2, 9]) {
    const program = await signedIn(port);
    program.write(5, command, 0, 1, 10, 0, 0, 1, 0, 80);
    assert.equal((await program.rest())[1], 7);
  }
  const program = await signedIn(port);
  program.write(5, 1, 0, 2, 10, 0, 0, 1, 0, 80);
  assert.equal((await program.rest())[1], 8);
});

for (const [what, bytes] of [
  ['SOCKS 4', [4, 1, 0, 80, 10, 0, 0, 1, 0]],
  ['HTTP', ['GET http://service-a/ HTTP/1.1\r\n\r\n']],
  ['a request before the password', [...greeting, ...toServiceA]],
  ['random bytes', [0x16, 0x03, 0x01, 0x02, 0x00, 0x01]],
] as const) {
  test(`${what} is hung up on`, limit, async () => {
    const { bench: made, port } = await start();
    const program = new Program(port);
    program.write(...bytes);
    assert.ok((await program.rest()).length <= 2);
    assert.deepEqual(made.tunnels.asked, []);
  });
}

test('who does not finish the handshake in ten seconds is hung up on', limit, async () => {
  const clock = new HandClock();
  const { port } = await start(undefined, { clock });
  const program = new Program(port);
  program.write(...greeting);
  await program.read(2);
  clock.advance(9_999);
  program.write(1);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(program.socket.destroyed, false);
  clock.advance(1);
  await program.rest();
});

test('who goes away before the answer leaves no tunnel behind', limit, async () => {
  const clock = new HandClock();
  const { bench: made, port } = await start(() => ({ kind: 'silent' }), { clock });
  const program = await signedIn(port);
  program.write(...toServiceA);
  while (made.tunnels.open === 0) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  server?.dispose();
  while (made.tunnels.open > 0) {
    await new Promise((resolve) => setImmediate(resolve));
  }
});

async function associate(port: number, clientPort = 0): Promise<{ program: Program; relayPort: number }> {
  const program = await signedIn(port);
  program.write(5, 3, 0, 1, 0, 0, 0, 0, clientPort >>> 8, clientPort & 0xff);
  const reply = await program.read(10);
  assert.deepEqual([...reply.subarray(0, 8)], [5, 0, 0, 1, 127, 0, 0, 1]);
  return { program, relayPort: reply.readUInt16BE(8) };
}

async function openUdp(): Promise<UdpSocket> {
  const socket = createSocket('udp4');
  udp.push(socket);
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return socket;
}

const datagram = (host: string, port: number, payload: string): Buffer =>
  Buffer.concat([
    Buffer.of(0, 0, 0, 3, host.length),
    Buffer.from(host),
    Buffer.of(port >>> 8, port & 0xff),
    Buffer.from(payload),
  ]);

test('datagrams reach a service by name, and answers say where they come from', limit, async () => {
  const { bench: made, port } = await start();
  const { relayPort } = await associate(port);
  const client = await openUdp();
  for (const payload of ['one', 'two']) {
    const heard = once(client, 'message');
    client.send(datagram('service-a', 53, payload), relayPort, '127.0.0.1');
    const [answer] = (await heard) as [Buffer];
    assert.deepEqual(answer, Buffer.concat([Buffer.of(0, 0, 0, 1, 10, 100, 0, 10, 0, 53), Buffer.from(payload)]));
  }
  assert.deepEqual(made.tunnels.asked, ['udp 10.100.0.10:53'], 'one flow for both');
});

test('datagrams to elsewhere go from this machine', limit, async () => {
  const { port } = await start();
  const { relayPort } = await associate(port);
  const target = await openUdp();
  target.on('message', (payload, from) => target.send(`re ${payload}`, from.port, from.address));
  const client = await openUdp();
  const heard = once(client, 'message');
  client.send(datagram('this-machine.example.org', target.address().port, 'x'), relayPort, '127.0.0.1');
  const [answer] = (await heard) as [Buffer];
  assert.equal(answer.subarray(10).toString(), 're x');
});

test('only the client that asked may use the association', limit, async () => {
  const { bench: made, port } = await start();
  const client = await openUdp();
  const stranger = await openUdp();
  const { relayPort } = await associate(port, client.address().port);
  stranger.send(datagram('service-b.service-b-ns', 53, 'x'), relayPort, '127.0.0.1');
  const heard = once(client, 'message');
  client.send(datagram('service-a', 53, 'y'), relayPort, '127.0.0.1');
  await heard;
  assert.deepEqual(made.tunnels.asked, ['udp 10.100.0.10:53']);
});

test('the first sender keeps an association that named no port; fragments and rubbish are dropped', limit, async () => {
  const { bench: made, port } = await start();
  const { relayPort } = await associate(port);
  const client = await openUdp();
  const stranger = await openUdp();
  const fragment = datagram('service-b.service-b-ns', 53, 'x');
  fragment[2] = 1;
  stranger.send(fragment, relayPort, '127.0.0.1');
  stranger.send('rubbish', relayPort, '127.0.0.1');
  const heard = once(client, 'message');
  client.send(datagram('service-a', 53, 'y'), relayPort, '127.0.0.1');
  await heard;
  stranger.send(datagram('service-b.service-b-ns', 53, 'x'), relayPort, '127.0.0.1');
  const again = once(client, 'message');
  client.send(datagram('service-a', 53, 'z'), relayPort, '127.0.0.1');
  await again;
  assert.deepEqual(made.tunnels.asked, ['udp 10.100.0.10:53']);
});

test('the association ends with its TCP connection', limit, async () => {
  const { bench: made, port } = await start();
  const { program, relayPort } = await associate(port);
  const client = await openUdp();
  const heard = once(client, 'message');
  client.send(datagram('service-a', 53, 'y'), relayPort, '127.0.0.1');
  await heard;
  assert.equal(made.tunnels.open, 1);
  program.socket.destroy();
  while (made.tunnels.open > 0) {
    await new Promise((resolve) => setImmediate(resolve));
  }
});

test('a flow that nobody uses for a minute is closed, the association stays', limit, async () => {
  const clock = new HandClock();
  const { bench: made, port } = await start(undefined, { clock });
  const { relayPort } = await associate(port);
  const client = await openUdp();
  const exchange = async (): Promise<void> => {
    const heard = once(client, 'message');
    client.send(datagram('service-a', 53, 'y'), relayPort, '127.0.0.1');
    await heard;
  };
  await exchange();
  clock.advance(50_000);
  await exchange();
  clock.advance(50_000);
  assert.equal(made.tunnels.open, 1);
  clock.advance(10_000);
  while (made.tunnels.open > 0) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  await exchange();
  assert.equal(made.tunnels.asked.length, 2);
});

test('an association for another machine is not allowed', limit, async () => {
  const { port } = await start();
  const program = await signedIn(port);
  program.write(5, 3, 0, 1, 192, 168, 1, 9, 0, 99);
  assert.equal((await program.rest())[1], 2);
});
