import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { createClient } from '@connectrpc/connect';
import type { Diversion } from '../../../src/agent/port/diversion.ts';
import { Forwarder } from '../../../src/agent/port/forwarder.ts';
import type { Relay } from '../../../src/agent/relay/relay.ts';
import { Diverter } from '../../../src/agent/tunnel/diverter.ts';
import type { OutboundDialer } from '../../../src/agent/tunnel/outbound.ts';
import { Scope, silentLogger, systemClock } from '../../../src/base/index.ts';
import {
  Agent,
  type ConnId,
  parseConnId,
  requestMatcher,
  serializeStreamInfo,
  tunnelCode,
} from '../../../src/protocol/index.ts';
import {
  createCallTransport,
  createGrpcServer,
  dialTcp,
  type MuxServer,
  openHttp2,
  openMux,
  openTunnel,
  relaySocket,
  type TunnelHandlers,
  type TunnelStream,
} from '../../../src/protocol/transport/index.ts';
import { HandClock } from '../manager/hand-clock.ts';

export const listen = async (
  server: { listen: Server['listen']; address: Server['address'] } & Server,
): Promise<number> => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
};

export async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listen(server);
  server.close();
  await once(server, 'close');
  return port;
}

export interface Pod {
  readonly scope: Scope;
  readonly clock: HandClock;
  readonly diverter: Diverter;
  readonly apiPort: number;
}

export interface PodOptions {
  readonly outbound?: OutboundDialer;
  /** It has nothing beside the contract. */
  readonly isStock?: boolean;
}

/** An agent's insides with its own server, without a port yet. */
export async function startPod({ outbound, isStock = false }: PodOptions = {}): Promise<Pod> {
  const scope = new Scope();
  scope.defer(() => {
    for (const socket of callers) {
      socket.destroy();
    }
    callers.clear();
  });
  const clock = new HandClock();
  const diverter = new Diverter(clock, silentLogger, () => undefined, outbound?.serve);
  const mux: MuxServer = {
    isKnown: async () => true,
    onOpen: (stream, info, { sessionId }) => (outbound ? outbound.take(stream, info, sessionId) : stream.reset()),
    onMux: (each, { sessionId }) => diverter.serveMux(each, sessionId),
  };
  const grpc = createGrpcServer({
    clock: systemClock,
    service: 'agent',
    acceptTunnel: (stream) => diverter.accept(stream),
    routes: (router) =>
      router.service(Agent, {
        version: () => ({ name: 'test', version: 'v2.24.0' }),
        watchDial: (request, { signal }) => diverter.watch(request.sessionId, signal),
      }),
    ...(isStock ? {} : { mux }),
  });
  const apiPort = await grpc.listen(0, '127.0.0.1');
  scope.defer(() => grpc.close());
  return { scope, clock, diverter, apiPort };
}

export interface Port {
  readonly forwarder: Forwarder;
  readonly port: number;
}

export async function openPort({ scope, clock, diverter }: Pod, app: Server, relay?: Relay): Promise<Port> {
  const containerPort = await listen(app);
  const sockets = new Set<Socket>();
  app.on('connection', (socket: Socket) => sockets.add(socket));
  scope.defer(() => {
    for (const socket of sockets) {
      socket.destroy();
    }
    app.close();
  });
  const port = await freePort();
  const forwarder = scope.own(
    new Forwarder({ agentPort: port, containerPort, podIp: '127.0.0.1', diverter, relay, clock, log: silentLogger }),
  );
  await forwarder.listen();
  return { forwarder, port };
}

export interface Developer {
  /** Dials that came, by source port. */
  readonly dials: number[];
}

/** How the developer's side gets its connections: all in one stream, or a tunnel for each, as with stock peers. */
export type Way = 'one stream' | 'tunnels';

/** A developer's side that does as the connector does: every dial goes to its port on loopback. */
export async function developer(pod: Pod, sessionId: string, way: Way = 'one stream'): Promise<Developer> {
  const session = await openHttp2({ host: '127.0.0.1', port: pod.apiPort }, { clock: systemClock });
  const controller = new AbortController();
  pod.scope.defer(() => {
    controller.abort();
    session.destroy();
  });
  const agent = createClient(Agent, createCallTransport(session));
  const dials: number[] = [];
  const take = (stream: TunnelStream, id: ConnId): void => {
    dials.push(id.sourcePort);
    let relay: TunnelHandlers | undefined;
    const early: ((handlers: TunnelHandlers) => void)[] = [];
    const deliver = (event: (handlers: TunnelHandlers) => void): void => {
      if (relay) {
        event(relay);
      } else {
        early.push(event);
      }
    };
    stream.start({
      onControl: (code, body) => deliver((handlers) => handlers.onControl(code, body)),
      onData: (slice, last) => deliver((handlers) => handlers.onData(slice, last)),
      onEnd: () => deliver((handlers) => handlers.onEnd()),
      onDrain: () => relay?.onDrain(),
      onClose: (error) => deliver((handlers) => handlers.onClose(error)),
    });
    if (id.protocol === 'udp') {
      // A program that answers every datagram.
      relay = {
        onControl: () => undefined,
        onData: (slice) => void stream.sendData(Buffer.concat([Buffer.from('laptop '), slice])),
        onEnd: () => stream.endSend(),
        onDrain: () => undefined,
        onClose: () => undefined,
      };
      stream.send(tunnelCode.dialOk);
      return;
    }
    void dialTcp(systemClock, id.destination, id.destinationPort, 1_000).then((outcome) => {
      if (outcome.result === 'ok') {
        stream.send(tunnelCode.dialOk);
        relay = relaySocket(outcome.socket, stream);
        for (const event of early.splice(0)) {
          event(relay);
        }
      } else {
        stream.send(tunnelCode.dialReject);
        stream.endSend();
      }
    });
  };
  const { signal } = controller;
  if (way === 'one stream') {
    const mux = await openMux(connect(pod.apiPort, '127.0.0.1'), {
      clock: systemClock,
      sessionId,
      signal,
      onOpen: (stream, { id }) => take(stream, id),
    });
    assert.ok(mux);
    pod.scope.defer(() => mux.close());
    return { dials };
  }
  const serve = async (): Promise<void> => {
    for await (const { connId } of agent.watchDial({ sessionId }, { signal })) {
      const id = parseConnId(connId);
      assert.ok(id);
      const stream = openTunnel(session, 'agent');
      stream.send(
        tunnelCode.streamInfo,
        serializeStreamInfo({ id, sessionId, dialTimeoutMs: 1_000, roundtripLatencyMs: 500 }),
      );
      take(stream, id);
    }
  };
  void serve().catch(() => undefined);
  await agent.version({});
  return { dials };
}

export const attachment = (
  session: string,
  targetPort: number,
  headerFilters: Readonly<Record<string, string>> = {},
  pathFilters: readonly string[] = [],
): Diversion => ({
  interceptId: `${session}:web`,
  clientSession: session,
  targetHost: '127.0.0.1',
  targetPort,
  dialTimeoutMs: 1_000,
  roundtripLatencyMs: 500,
  ...(Object.keys(headerFilters).length + pathFilters.length > 0
    ? { matches: requestMatcher({ headerFilters, pathFilters }) }
    : {}),
});

const callers = new Set<Socket>();

export function call(port: number, first = ''): Socket {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  callers.add(socket);
  socket.on('error', () => undefined);
  if (first) {
    socket.write(first);
  }
  return socket;
}

/** Collects what comes until `done` is content with it; fails when the connection ends before. */
export async function readUntil(socket: Socket, done: (text: string) => boolean): Promise<string> {
  let text = '';
  socket.setEncoding('latin1');
  while (!done(text)) {
    const chunk: unknown = socket.read();
    if (typeof chunk === 'string') {
      text += chunk;
    } else if (socket.readableEnded || socket.destroyed) {
      throw new Error(`ended after “${text}”`);
    } else {
      await Promise.race([once(socket, 'readable'), once(socket, 'end'), once(socket, 'close')]);
    }
  }
  return text;
}

/** Everything until the end; `lost` when the connection was reset. */
export async function readAll(socket: Socket): Promise<string> {
  let text = '';
  socket.setEncoding('latin1');
  try {
    for await (const chunk of socket) {
      text += String(chunk);
    }
  } catch {
    return `${text} lost`;
  }
  return text;
}
