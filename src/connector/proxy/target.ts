import { createSocket } from 'node:dgram';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type Clock, formatIp, type IpBytes } from '../../base/index.ts';
import type { ConnId, DesiredNetwork } from '../../protocol/index.ts';
import { resetSocket, resultOfCode } from '../../protocol/transport/index.ts';
import type { ClusterDialer, DialFailure } from '../outbound/dial.ts';
import { createAddressPolicy } from './policy.ts';
import { relaySockets, tunnelDuplex } from './relay.ts';
import { type ResolverDeps, resolveHost } from './resolve.ts';

export interface Target {
  /** A name or an address without brackets. */
  readonly host: string;
  readonly port: number;
}

/** Why a target could not be reached. `unknown`: nobody knows the name; `failed`: the cluster could not be asked. */
export type TargetFailure = DialFailure | 'unknown' | 'failed';

export interface TargetConnection {
  /** Relays until both directions are over. The socket must be open for half-close. */
  join(socket: Socket): void;
  toDuplex(): Duplex;
  reset(): void;
}

export type TargetOutcome =
  | { readonly result: 'ok'; readonly connection: TargetConnection }
  | { readonly result: TargetFailure };

export interface DatagramFlow {
  send(payload: Uint8Array): void;
  close(): void;
}

export interface DatagramHooks {
  /** `from` is the address that the datagram was sent to in the end. */
  readonly onDatagram: (payload: Uint8Array, from: IpBytes) => void;
  /** Once; nothing comes afterwards. Not after `close`. */
  readonly onClosed: () => void;
}

export interface TargetDialerDeps extends ResolverDeps {
  readonly clock: Clock;
  readonly cluster: Pick<ClusterDialer, 'dialTcp' | 'openUdp'>;
  /** What is the cluster's, as the daemon would be told; undefined while that is not known. */
  readonly network: () => DesiredNetwork | undefined;
}

const hereTimeoutMs = 7_000;
/** A service has one address, a headless one as many as pods: beyond a few, one more try helps nobody. */
const maxAddresses = 4;
const maxEarlyDatagrams = 16;
const firstPort = 1_024;
const loopback4 = Uint8Array.of(127, 0, 0, 1);
const loopback6 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

/**
 * Reaches what a program names: cluster names and cluster addresses in the cluster, everything else from this machine,
 * by the policy that the daemon follows.
 */
export class TargetDialer {
  readonly #deps: TargetDialerDeps;
  #nextPort = firstPort;

  constructor(deps: TargetDialerDeps) {
    this.#deps = deps;
  }

  /** Never rejects. The signal gives the attempt up. */
  async dialTcp(target: Target, signal: AbortSignal): Promise<TargetOutcome> {
    const found = await this.#find(target.host);
    if (typeof found === 'string') {
      return { result: found };
    }
    let last: TargetOutcome = { result: 'unknown' };
    for (const ip of found.inside.slice(0, maxAddresses)) {
      last = await this.#dialCluster(ip, target.port, signal);
      if (last.result === 'ok' || signal.aborted) {
        return last;
      }
    }
    return found.outside.length > 0 ? dialHere(this.#deps.clock, found.outside, target.port, signal) : last;
  }

  /** Undefined when the target cannot be reached at all. */
  async openUdp(target: Target, hooks: DatagramHooks): Promise<DatagramFlow | undefined> {
    const found = await this.#find(target.host);
    if (typeof found === 'string') {
      return undefined;
    }
    const [inside] = found.inside;
    if (inside) {
      return this.#deps.cluster.openUdp(this.#connId('udp', inside, target.port), {
        onOpened: (result) => {
          if (result !== 'ok') {
            hooks.onClosed();
          }
        },
        onDatagram: (payload) => hooks.onDatagram(payload, inside),
        onClosed: hooks.onClosed,
      });
    }
    const [outside] = found.outside;
    return outside && openUdpHere(outside, target.port, hooks);
  }

  async #find(host: string): Promise<{ inside: readonly IpBytes[]; outside: readonly IpBytes[] } | TargetFailure> {
    const network = this.#deps.network();
    if (!network) {
      return 'failed';
    }
    const addresses = await resolveHost(this.#deps, host, network.dns).catch(() => undefined);
    if (!addresses) {
      return 'failed';
    }
    const isInside = createAddressPolicy(network);
    const inside = addresses.filter(isInside);
    return addresses.length === 0 ? 'unknown' : { inside, outside: addresses.filter((ip) => !inside.includes(ip)) };
  }

  async #dialCluster(ip: IpBytes, port: number, signal: AbortSignal): Promise<TargetOutcome> {
    const outcome = await this.#deps.cluster.dialTcp(this.#connId('tcp', ip, port), signal);
    if (outcome.result !== 'ok') {
      return outcome;
    }
    const { connection } = outcome;
    return {
      result: 'ok',
      connection: {
        join: (socket) => connection.join(socket),
        reset: () => connection.reset(),
        toDuplex() {
          let made: Duplex | undefined;
          connection.attach((stream) => {
            const { duplex, handlers } = tunnelDuplex(stream);
            made = duplex;
            return handlers;
          });
          return made as Duplex;
        },
      },
    };
  }

  /** A source of our own for each: peers keep connections apart by both ends. */
  #connId(protocol: 'tcp' | 'udp', destination: IpBytes, destinationPort: number): ConnId {
    const sourcePort = this.#nextPort;
    this.#nextPort = sourcePort === 65_535 ? firstPort : sourcePort + 1;
    const source = destination.length === 4 ? loopback4 : loopback6;
    return { protocol, source, sourcePort, destination, destinationPort };
  }
}

/** From this machine; of several addresses the first that answers, families in turn (RFC 8305, by Node). */
function dialHere(
  clock: Clock,
  addresses: readonly IpBytes[],
  port: number,
  signal: AbortSignal,
): Promise<TargetOutcome> {
  return new Promise((resolve) => {
    const found = addresses.map((ip) => ({ address: formatIp(ip), family: ip.length === 4 ? 4 : 6 }));
    const socket = connect({
      host: 'target',
      port,
      allowHalfOpen: true,
      noDelay: true,
      autoSelectFamily: true,
      lookup: (_name, _options, answer) => answer(null, found),
    });
    const end = (outcome: TargetOutcome): void => {
      void timer.dispose();
      signal.removeEventListener('abort', giveUp);
      if (outcome.result !== 'ok') {
        socket.destroy();
      }
      resolve(outcome);
    };
    const giveUp = (): void => end({ result: 'timeout' });
    const timer = clock.after(hereTimeoutMs, giveUp);
    signal.addEventListener('abort', giveUp, { once: true });
    socket.on('error', ({ code }: NodeJS.ErrnoException) => end({ result: resultOfCode(code) }));
    socket.once('connect', () => {
      // Nothing flows before somebody listens; to pause it would keep the HTTP client waiting for good.
      end({
        result: 'ok',
        connection: {
          join: (other) => relaySockets(other, socket),
          toDuplex: () => socket,
          reset: () => resetSocket(socket),
        },
      });
    });
    if (signal.aborted) {
      giveUp();
    }
  });
}

function openUdpHere(ip: IpBytes, port: number, { onDatagram, onClosed }: DatagramHooks): DatagramFlow {
  const socket = createSocket(ip.length === 4 ? 'udp4' : 'udp6');
  const early: Uint8Array[] = [];
  let state: 'opening' | 'open' | 'closed' = 'opening';
  const close = (): void => {
    if (state !== 'closed') {
      state = 'closed';
      socket.close();
    }
  };
  socket.on('error', () => {
    if (state !== 'closed') {
      close();
      onClosed();
    }
  });
  socket.on('message', (payload) => onDatagram(payload, ip));
  socket.once('connect', () => {
    state = 'open';
    for (const payload of early.splice(0)) {
      socket.send(payload, () => undefined);
    }
  });
  // Connected: the kernel lets only this peer's datagrams in.
  socket.connect(port, formatIp(ip));
  return {
    send(payload) {
      if (state === 'open') {
        socket.send(payload, () => undefined);
      } else if (state === 'opening' && early.length < maxEarlyDatagrams) {
        early.push(payload);
      }
    },
    close,
  };
}
