import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import type { Clock, Disposable } from '../../base/index.ts';
import type { ConnId } from '../../protocol/index.ts';
import { portTaken } from '../errors.ts';
import type { ClusterDialer, UdpFlow } from '../outbound/dial.ts';

export interface PodDatagramsDeps {
  readonly clock: Clock;
  readonly dialer: Pick<ClusterDialer, 'openUdp'>;
}

interface Flow {
  usedMs: number;
  readonly tunnel: UdpFlow;
  /** What waits for the far end; undefined once it is there. */
  early: Uint8Array[] | undefined;
}

const host = '127.0.0.1';
const idleMs = 60_000;
const sweepMs = 10_000;
const maxFlows = 256;
const maxEarly = 16;

/** A UDP port of this machine that leads to a pod: a flow for each sender, ended when it was idle for a minute. */
export class PodDatagrams implements Disposable {
  readonly #deps: PodDatagramsDeps;
  readonly #nextId: () => ConnId | undefined;
  readonly #socket: Socket = createSocket('udp4');
  readonly #flows = new Map<number, Flow>();
  readonly #sweep: Disposable;
  #isDisposed = false;

  constructor(deps: PodDatagramsDeps, nextId: () => ConnId | undefined) {
    this.#deps = deps;
    this.#nextId = nextId;
    this.#sweep = deps.clock.every(sweepMs, () => this.#dropIdle());
    this.#socket.on('message', (bytes, from) => this.#receive(bytes, from));
  }

  /** Errors: `connector.port-taken`. */
  listen(port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#socket.once('error', (error) => reject(portTaken(`${host}:${port}/UDP`, error)));
      this.#socket.bind({ port, address: host, exclusive: true }, () => {
        this.#socket.on('error', () => undefined);
        resolve(this.#socket.address().port);
      });
    });
  }

  dispose(): void {
    if (this.#isDisposed) {
      return;
    }
    this.#isDisposed = true;
    void this.#sweep.dispose();
    for (const { tunnel } of this.#flows.values()) {
      tunnel.close();
    }
    this.#flows.clear();
    this.#socket.close();
  }

  #receive(bytes: Uint8Array, { port }: RemoteInfo): void {
    const flow = this.#flows.get(port) ?? this.#open(port);
    if (!flow) {
      return;
    }
    flow.usedMs = this.#deps.clock.nowMs();
    if (!flow.early) {
      flow.tunnel.send(bytes);
    } else if (flow.early.length < maxEarly) {
      flow.early.push(bytes);
    }
  }

  #open(sender: number): Flow | undefined {
    const id = this.#flows.size < maxFlows ? this.#nextId() : undefined;
    const forget = (): void => {
      if (this.#flows.get(sender) === flow) {
        this.#flows.delete(sender);
      }
    };
    const tunnel =
      id &&
      this.#deps.dialer.openUdp(id, {
        onOpened: (result) => {
          const early = flow?.early ?? [];
          if (result !== 'ok' || !flow) {
            forget();
            return;
          }
          flow.early = undefined;
          for (const payload of early) {
            flow.tunnel.send(payload);
          }
        },
        onDatagram: (payload) => {
          if (flow && !this.#isDisposed) {
            flow.usedMs = this.#deps.clock.nowMs();
            this.#socket.send(payload, sender, host, () => undefined);
          }
        },
        onClosed: forget,
      });
    const flow: Flow | undefined = tunnel && { usedMs: this.#deps.clock.nowMs(), tunnel, early: [] };
    if (flow) {
      this.#flows.set(sender, flow);
    }
    return flow;
  }

  #dropIdle(): void {
    const before = this.#deps.clock.nowMs() - idleMs;
    for (const [sender, { usedMs, tunnel }] of this.#flows) {
      if (usedMs <= before) {
        this.#flows.delete(sender);
        tunnel.close();
      }
    }
  }
}
