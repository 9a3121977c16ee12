import type { ClientHttp2Session } from 'node:http2';
import { type Clock, formatIp, type Logger } from '../../base/index.ts';
import { type ConnId, parseConnId, serializeStreamInfo, tunnelCode, type wire } from '../../protocol/index.ts';
import { dialTcp, LateHandlers, openTunnel, relaySocket, type TunnelService } from '../../protocol/transport/index.ts';

export interface InboundDeps {
  readonly clock: Clock;
  readonly log: Logger;
  /** Only what the user has attached may be dialled: the cluster must not choose ports of this machine. */
  readonly isAllowed: (host: string, port: number) => boolean;
}

export interface DialSource {
  readonly service: TunnelService;
  readonly session: ClientHttp2Session;
  readonly sessionId: string;
}

const localDialTimeoutMs = 3_000;

/** Answers a peer's requests to fetch connections, for as long as its watch lasts. */
export async function serveDialRequests(
  deps: InboundDeps,
  source: DialSource,
  requests: AsyncIterable<wire.DialRequest>,
): Promise<void> {
  for await (const request of requests) {
    const id = parseConnId(request.connId);
    if (id) {
      fetchConnection(deps, source, id, request);
    }
  }
}

/** Opens the tunnel back, dials the developer's program, and says how that went. */
function fetchConnection(deps: InboundDeps, source: DialSource, id: ConnId, request: wire.DialRequest): void {
  const stream = openTunnel(source.session, source.service);
  const reject = (): void => {
    stream.send(tunnelCode.dialReject);
    stream.endSend();
    stream.resume();
  };
  const dial = async (): Promise<void> => {
    const host = formatIp(id.destination);
    if (id.protocol !== 'tcp' || !deps.isAllowed(host, id.destinationPort)) {
      deps.log.warn('a dial to something that is not attached was refused', { host, port: id.destinationPort });
      reject();
      return;
    }
    const outcome = await dialTcp(deps.clock, id.destination, id.destinationPort, localDialTimeoutMs);
    if (outcome.result !== 'ok') {
      deps.log.debug('the local program refused', { port: id.destinationPort, result: outcome.result });
      reject();
      return;
    }
    if (stream.isClosed) {
      outcome.socket.destroy();
      return;
    }
    stream.send(tunnelCode.dialOk);
    late.attach(relaySocket(outcome.socket, stream));
    stream.resume();
  };
  stream.send(
    tunnelCode.streamInfo,
    serializeStreamInfo({
      id,
      sessionId: source.sessionId,
      dialTimeoutMs: Number(request.dialTimeout) / 1e6,
      roundtripLatencyMs: Number(request.roundtripLatency) / 1e6,
    }),
  );
  const late = new LateHandlers({
    onControl: (code) => {
      if (code === tunnelCode.streamOk) {
        stream.pause();
        void dial();
      }
    },
  });
  stream.start(late.handlers);
}
