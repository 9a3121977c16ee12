import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import { KnownClients } from '../../../src/agent/tunnel/known.ts';
import { OutboundDialer } from '../../../src/agent/tunnel/outbound.ts';
import { isReason, type NearfieldError, parseIp, silentLogger, systemClock } from '../../../src/base/index.ts';
import { type StreamInfo, serializeStreamInfo, tunnelCode } from '../../../src/protocol/index.ts';
import { openHttp2, openMux, openTunnel, type TunnelStream } from '../../../src/protocol/transport/index.ts';
import { HandClock } from '../manager/hand-clock.ts';
import { freePort, listen, type Pod, startPod } from './pod.ts';

const limit = { timeout: 10_000 };
let pod: Pod;
let asked: string[];
let known: KnownClients;
let clock: HandClock;

beforeEach(async () => {
  asked = [];
  clock = new HandClock();
  known = new KnownClients(clock, async (sessionId) => {
    asked.push(sessionId);
    return sessionId === 'known';
  });
  // This machine's loopback stands in for the pod's address: 127.0.0.9 answers nothing that is bound to 127.0.0.1.
  const outbound = new OutboundDialer({
    clock: systemClock,
    log: silentLogger,
    podIp: '127.0.0.9',
    isKnown: (sessionId) => known.has(sessionId),
  });
  pod = await startPod({ outbound });
});
afterEach(() => pod.scope.dispose());

interface Opened {
  readonly stream: TunnelStream;
  readonly codes: number[];
  readonly answer: Promise<string>;
  readonly closed: Promise<NearfieldError | undefined>;
}

async function open(to: string, port: number, sessionId = 'known', protocol: 'tcp' | 'udp' = 'tcp'): Promise<Opened> {
  const session = await openHttp2({ host: '127.0.0.1', port: pod.apiPort }, { clock: systemClock });
  pod.scope.defer(() => session.destroy());
  const stream = openTunnel(session, 'agent');
  stream.send(tunnelCode.streamInfo, serializeStreamInfo(infoOf(to, port, sessionId, protocol)));
  return listenTo(stream);
}

function infoOf(to: string, port: number, sessionId: string, protocol: 'tcp' | 'udp' = 'tcp'): StreamInfo {
  const [source, destination] = [parseIp('10.1.1.1'), parseIp(to)];
  assert.ok(source && destination);
  const id = { protocol, source, sourcePort: 4711, destination, destinationPort: port };
  return { id, sessionId, dialTimeoutMs: 1_000, roundtripLatencyMs: 0 };
}

function listenTo(stream: TunnelStream): Opened {
  const codes: number[] = [];
  const answer = Promise.withResolvers<string>();
  const closed = Promise.withResolvers<NearfieldError | undefined>();
  stream.start({
    onControl: (code) => void codes.push(code),
    onData: (slice) => answer.resolve(Buffer.from(slice).toString()),
    onEnd: () => stream.endSend(),
    onDrain: () => undefined,
    onClose: (error) => closed.resolve(error),
  });
  return { stream, codes, answer: answer.promise, closed: closed.promise };
}

async function greeter(): Promise<number> {
  const server = createServer((socket) => socket.on('error', () => undefined).end('hello from the pod'));
  pod.scope.defer(() => void server.close());
  return await listen(server);
}

test('a client that the manager knows reaches what the pod reaches', limit, async () => {
  const { answer, codes } = await open('127.0.0.1', await greeter());
  assert.equal(await answer, 'hello from the pod');
  assert.deepEqual(codes, [tunnelCode.streamOk, tunnelCode.dialOk]);
});

test('so does who has all tunnels in one connection, and only in the name of its own session', limit, async () => {
  const { signal } = new AbortController();
  const port = await greeter();
  const mux = await openMux(connect(pod.apiPort, '127.0.0.1'), { clock: systemClock, sessionId: 'known', signal });
  assert.ok(mux);
  pod.scope.defer(() => mux.close());
  const ask = (sessionId: string): Opened =>
    listenTo(mux.open(infoOf('127.0.0.1', port, sessionId)) ?? assert.fail('not opened'));
  const { answer, codes } = ask('known');
  assert.equal(await answer, 'hello from the pod');
  assert.deepEqual(codes, [tunnelCode.dialOk]);
  const other = ask('another');
  assert.equal(await other.closed, undefined);
  assert.deepEqual(other.codes, [tunnelCode.dialReject]);
  assert.equal(other.stream.result, 'prohibited');
});

test('a port of the pod that is only open on loopback is reached by the pod’s address', limit, async () => {
  const { answer } = await open('127.0.0.9', await greeter());
  assert.equal(await answer, 'hello from the pod');
});

test('a session that nobody knows is refused', limit, async () => {
  const { closed, codes } = await open('127.0.0.1', await greeter(), 'stranger');
  const error = await closed;
  assert.equal(error?.code, 'permission_denied');
  assert.equal(isReason(error, 'base.timeout'), false);
  assert.deepEqual(codes, []);
});

test('what is closed, and what is only valid on a link, is rejected', limit, async () => {
  for (const [to, port] of [
    ['127.0.0.1', await freePort()],
    ['169.254.169.254', 80],
    ['fe80::1', 80],
    ['0.0.0.0', 80],
  ] as const) {
    const { closed, codes } = await open(to, port);
    assert.equal(await closed, undefined);
    assert.deepEqual(codes, [tunnelCode.streamOk, tunnelCode.dialReject], to);
  }
});

test('datagrams stay datagrams', limit, async () => {
  const server = createSocket('udp4');
  server.bind(0, '127.0.0.1');
  await once(server, 'listening');
  pod.scope.defer(() => void server.close());
  server.on('message', (message, from) => server.send(`got ${String(message)}`, from.port, from.address));
  const { stream, answer } = await open('127.0.0.1', server.address().port, 'known', 'udp');
  stream.sendData(Buffer.from('one'));
  assert.equal(await answer, 'got one');
  stream.endSend();
});

test('the attached are known, others are asked for, and an answer is believed for a while', limit, async () => {
  known.setAttached(new Set(['ann']));
  assert.equal(await known.has('ann'), true);
  assert.deepEqual(asked, []);
  assert.equal(await known.has('known'), true);
  assert.equal(await known.has('known'), true);
  assert.deepEqual(asked, ['known']);
  clock.advance(31_000);
  assert.equal(await known.has('known'), true);
  assert.deepEqual(asked, ['known', 'known']);
  assert.equal(await known.has('agent:pod-uid'), false, 'an agent is no client, and its id can be guessed');
  assert.equal(await known.has(''), false);
  assert.deepEqual(asked, ['known', 'known']);
});
