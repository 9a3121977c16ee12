import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import type { Clock, Disposable } from '../../base/index.ts';
import { proxyHost } from './listener.ts';
import { parseDatagram, serializeDatagram } from './socks.ts';
import type { DatagramFlow, Target, TargetDialer } from './target.ts';
import { formatTarget } from './words.ts';

export interface AssociationDeps {
  readonly clock: Clock;
  readonly targets: Pick<TargetDialer, 'openUdp'>;
}

const idleMs = 60_000;
const sweepMs = 10_000;
const maxFlows = 256;
/** What may wait for a flow that is being opened. */
const maxEarly = 16;

interface Flow {
  usedMs: number;
  /** Undefined while it is being opened; `early` waits for it. */
  opened: DatagramFlow | undefined;
  readonly early: Uint8Array[];
}

/**
 * One UDP ASSOCIATE (RFC 1928 §7): a port on loopback that lives as long as the TCP connection that asked for it. It
 * serves one sender: the port that the client named, else the first that sends. Each destination is a flow of its own.
 */
export class Association implements Disposable {
  readonly #deps: AssociationDeps;
  readonly #socket: Socket = createSocket('udp4');
  readonly #flows = new Map<string, Flow>();
  readonly #sweep: Disposable;
  #clientPort: number;
  #isDisposed = false;

  /** `clientPort` 0: not known yet. */
  constructor(deps: AssociationDeps, clientPort: number) {
    this.#deps = deps;
    this.#clientPort = clientPort;
    this.#sweep = deps.clock.every(sweepMs, () => this.#dropIdle());
    this.#socket.on('message', (bytes, from) => this.#receive(bytes, from));
    this.#socket.on('error', () => this.dispose());
  }

  /** Resolves with the port that the client must send to. */
  listen(): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#socket.once('error', reject);
      this.#socket.bind(0, proxyHost, () => {
        this.#socket.off('error', reject);
        resolve(this.#socket.address().port);
      });
    });
  }

  get flows(): number {
    return this.#flows.size;
  }

  dispose(): void {
    if (this.#isDisposed) {
      return;
    }
    this.#isDisposed = true;
    void this.#sweep.dispose();
    for (const { opened } of this.#flows.values()) {
      opened?.close();
    }
    this.#flows.clear();
    this.#socket.close();
  }

  #receive(bytes: Uint8Array, from: RemoteInfo): void {
    if (from.address !== proxyHost || (this.#clientPort !== 0 && from.port !== this.#clientPort)) {
      return;
    }
    const datagram = parseDatagram(bytes);
    if (!datagram) {
      return;
    }
    this.#clientPort = from.port;
    const key = formatTarget(datagram.target);
    const flow = this.#flows.get(key) ?? this.#open(key, datagram.target);
    if (!flow) {
      return;
    }
    flow.usedMs = this.#deps.clock.nowMs();
    if (flow.opened) {
      flow.opened.send(datagram.payload);
    } else if (flow.early.length < maxEarly) {
      flow.early.push(datagram.payload);
    }
  }

  #open(key: string, target: Target): Flow | undefined {
    if (this.#flows.size >= maxFlows) {
      return undefined;
    }
    const flow: Flow = { usedMs: this.#deps.clock.nowMs(), opened: undefined, early: [] };
    this.#flows.set(key, flow);
    const forget = (): void => {
      if (this.#flows.get(key) === flow) {
        this.#flows.delete(key);
      }
    };
    const opening = this.#deps.targets.openUdp(target, {
      onDatagram: (payload, source) => {
        flow.usedMs = this.#deps.clock.nowMs();
        if (!this.#isDisposed) {
          const answer = serializeDatagram(source, target.port, payload);
          this.#socket.send(answer, this.#clientPort, proxyHost, () => undefined);
        }
      },
      onClosed: forget,
    });
    void opening.then((opened) => {
      if (!opened) {
        forget();
      } else if (this.#flows.get(key) !== flow) {
        opened.close();
      } else {
        flow.opened = opened;
        for (const payload of flow.early.splice(0)) {
          opened.send(payload);
        }
      }
    }, forget);
    return flow;
  }

  #dropIdle(): void {
    const before = this.#deps.clock.nowMs() - idleMs;
    for (const [key, { usedMs, opened }] of this.#flows) {
      if (usedMs <= before) {
        this.#flows.delete(key);
        opened?.close();
      }
    }
  }
}
