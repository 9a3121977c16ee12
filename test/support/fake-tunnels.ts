import assert from 'node:assert/strict';
import { connect, createServer, Socket } from 'node:net';
import { type Clock, formatIp, systemClock } from '../../src/base/index.ts';
import { parseStreamInfo, type StreamInfo, serializeStreamOk, tunnelCode } from '../../src/protocol/index.ts';
import {
  createGrpcServer,
  type DialOutcome,
  openHttp2,
  openMux,
  relaySocket,
  type TunnelHandlers,
  type TunnelOrigin,
  type TunnelStream,
  tunnelCalls,
} from '../../src/protocol/transport/index.ts';

type Failure = Exclude<DialOutcome['result'], 'ok'>;

/** What a fake manager does with a tunnel: connects it to a program in this process, echoes it, or says no. */
export type Answer =
  | { readonly kind: 'program'; readonly onSocket: (socket: Socket) => void }
  /** `endsFirst`: it closes after the first message, before the program does. */
  | { readonly kind: 'echo'; readonly endsFirst?: boolean }
  | { readonly kind: 'fail'; readonly result: Failure }
  /** Takes the question and never answers. */
  | { readonly kind: 'silent' };

export interface FakeTunnels {
  readonly deps: {
    readonly clock: Clock;
    readonly tunnels: () => TunnelOrigin;
  };
  /** What was asked, as `tcp 10.1.2.3:80`, in order. */
  readonly asked: readonly string[];
  readonly infos: readonly StreamInfo[];
  /** Tunnels that are not over yet. */
  readonly open: number;
  /** New ones are refused; those that are open go on. */
  refuseNew(): void;
  /** As a port-forward that is gone: no stream says good-bye. */
  breakConnection(): void;
  close(): Promise<void>;
}

/** The manager's end of the tunnels in this process: real HTTP/2, no cluster. `isCarried`: all in one stream. */
export async function openFakeTunnels(
  answer: (info: StreamInfo) => Answer,
  clock: Clock = systemClock,
  { isCarried = false }: { readonly isCarried?: boolean } = {},
): Promise<FakeTunnels> {
  const asked: string[] = [];
  const infos: StreamInfo[] = [];
  const open = new Set<TunnelStream>();
  const sockets = new Set<Socket>();
  const opened = (stream: TunnelStream, info: StreamInfo): TunnelHandlers => {
    const { protocol, destination, destinationPort } = info.id;
    infos.push(info);
    asked.push(`${protocol} ${formatIp(destination)}:${destinationPort}`);
    return serve(stream, answer(info), sockets);
  };
  const grpc = createGrpcServer({
    clock: systemClock,
    service: 'manager',
    routes: () => undefined,
    acceptTunnel: (stream) => {
      open.add(stream);
      let handlers: TunnelHandlers | undefined;
      stream.start({
        onControl(code, body) {
          if (handlers) {
            handlers.onControl(code, body);
            return;
          }
          const info = code === tunnelCode.streamInfo ? parseStreamInfo(body) : undefined;
          if (!info) {
            stream.reset();
            return;
          }
          stream.vouch();
          stream.send(tunnelCode.streamOk, serializeStreamOk());
          handlers = opened(stream, info);
        },
        onData: (slice, last) => handlers?.onData(slice, last),
        onEnd: () => handlers?.onEnd(),
        onDrain: () => handlers?.onDrain(),
        onClose: (error) => {
          open.delete(stream);
          handlers?.onClose(error);
        },
      });
    },
    mux: {
      isKnown: () => isCarried,
      onOpen: (stream, info) => {
        open.add(stream);
        const handlers = opened(stream, info);
        stream.start({
          ...handlers,
          onClose: (error) => {
            open.delete(stream);
            handlers.onClose(error);
          },
        });
      },
    },
  });
  const port = await grpc.listen(0, '127.0.0.1');
  const link = await (isCarried ? openShared(port) : openCalls(port));
  return {
    deps: { clock, tunnels: () => ({ tunnels: link.tunnels, sessionId: 's' }) },
    asked,
    infos,
    get open() {
      return open.size;
    },
    refuseNew: link.refuseNew,
    breakConnection: link.breakConnection,
    async close() {
      link.breakConnection();
      for (const socket of sockets) {
        socket.destroy();
      }
      await grpc.close();
    },
  };
}

type Link = Pick<FakeTunnels, 'refuseNew' | 'breakConnection'> & Pick<TunnelOrigin, 'tunnels'>;

async function openShared(port: number): Promise<Link> {
  const { signal } = new AbortController();
  const mux = await openMux(connect(port, '127.0.0.1'), { clock: systemClock, sessionId: 's', signal });
  assert.ok(mux);
  return { tunnels: mux, refuseNew: () => mux.leave(), breakConnection: () => mux.close() };
}

async function openCalls(port: number): Promise<Link> {
  const session = await openHttp2({ host: '127.0.0.1', port }, { clock: systemClock });
  const breakConnection = (): void => {
    if (!session.destroyed) {
      session.socket.destroy();
    }
  };
  return { tunnels: tunnelCalls(session, 'manager'), refuseNew: () => session.close(), breakConnection };
}

const quiet: TunnelHandlers = {
  onControl: () => undefined,
  onData: () => undefined,
  onEnd: () => undefined,
  onDrain: () => undefined,
  onClose: () => undefined,
};

function serve(stream: TunnelStream, answer: Answer, sockets: Set<Socket>): TunnelHandlers {
  switch (answer.kind) {
    case 'silent':
      return quiet;
    case 'fail':
      stream.send(tunnelCode.dialReject);
      stream.finish(answer.result);
      return quiet;
    case 'echo': {
      stream.send(tunnelCode.dialOk);
      let parts: Uint8Array[] = [];
      return {
        ...quiet,
        onData(slice, last) {
          parts.push(slice);
          if (last) {
            stream.sendData(Buffer.concat(parts));
            parts = [];
            if (answer.endsFirst) {
              stream.endSend();
            }
          }
        },
        onEnd: () => stream.finish(),
      };
    }
    case 'program': {
      const socket = socketTo((far) => {
        sockets.add(far);
        answer.onSocket(far);
      });
      sockets.add(socket);
      stream.send(tunnelCode.dialOk);
      return relaySocket(socket, stream);
    }
  }
}

/** A socket that is being connected with a program of the test. */
function socketTo(program: (socket: Socket) => void): Socket {
  const socket = new Socket({ allowHalfOpen: true });
  const server = createServer({ allowHalfOpen: true }, (far) => {
    server.close();
    far.on('error', () => undefined);
    program(far);
  });
  server.listen(0, '127.0.0.1', () => {
    const address = server.address();
    socket.connect({ host: '127.0.0.1', port: typeof address === 'object' && address ? address.port : 0 });
  });
  return socket;
}
