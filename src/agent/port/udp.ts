import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { type Clock, type Disposable, formatIp, type Logger } from '../../base/index.ts';
import type { TakenTunnel } from '../tunnel/dialled.ts';
import type { Caller, Diverter } from '../tunnel/diverter.ts';
import { discard } from '../tunnel/duplex.ts';
import { type AppAddress, appIp } from './app.ts';
import { type Diversion, emptyPlan, type PortPlan } from './diversion.ts';
import { Tap } from './tap.ts';

export interface UdpForwarderOptions extends AppAddress {
  readonly agentPort: number;
  readonly diverter: Diverter;
  readonly clock: Clock;
  readonly log: Logger;
}

/** As long as the public agents keep one. */
const idleMs = 60_000;
/** Callers at a time; beyond, the one that was silent longest makes room. */
const maxFlows = 2_000;
/** Datagrams that wait for a dial; beyond, they are lost, as UDP's may be. */
const maxWaiting = 64;

/**
 * One UDP port of the application. A flow is what one caller's address sends and gets: it belongs to the developer or to
 * the application, decided by its first datagram and again whenever what is attached changes.
 */
export class UdpForwarder implements Disposable {
  readonly #options: UdpForwarderOptions;
  readonly #flows = new Map<string, Flow>();
  #socket: Socket | undefined;
  #sweeper: Disposable | undefined;
  #plan: PortPlan = emptyPlan;

  constructor(options: UdpForwarderOptions) {
    this.#options = options;
  }

  async listen(): Promise<void> {
    this.#socket = await bind('udp6', this.#options.agentPort).catch(() => bind('udp4', this.#options.agentPort));
    this.#socket.on('error', (error) => this.#options.log.warn('a UDP port failed', { error }));
    this.#socket.on('message', (message, from) => this.#receive(message, from));
    this.#sweeper = this.#options.clock.every(idleMs / 2, () => this.#sweep());
  }

  /** Flows that would go elsewhere now are ended: their next datagram begins a new one. */
  apply(plan: PortPlan): void {
    const isSame =
      plan.whole?.interceptId === this.#plan.whole?.interceptId &&
      plan.taps.map(({ interceptId }) => interceptId).join() ===
        this.#plan.taps.map(({ interceptId }) => interceptId).join();
    this.#plan = plan;
    if (!isSame) {
      this.#end();
    }
  }

  get openConnections(): number {
    return 0;
  }

  dispose(): void {
    void this.#sweeper?.dispose();
    this.#socket?.close();
    this.#socket = undefined;
    this.#end();
  }

  #receive(message: Buffer, from: RemoteInfo): void {
    const key = `${from.address} ${from.port}`;
    let flow = this.#flows.get(key);
    if (flow) {
      // The last one in the map is the one that spoke last.
      this.#flows.delete(key);
    } else {
      const [oldest] = this.#flows;
      if (oldest && this.#flows.size >= maxFlows) {
        oldest[1].end();
        this.#flows.delete(oldest[0]);
      }
      flow = new Flow(this.#options, this.#plan, from, (answer) => this.#socket?.send(answer, from.port, from.address));
    }
    this.#flows.set(key, flow);
    flow.receive(message);
  }

  #sweep(): void {
    const now = this.#options.clock.nowMs();
    for (const [key, flow] of this.#flows) {
      if (now - flow.lastActiveMs >= idleMs) {
        flow.end();
        this.#flows.delete(key);
      }
    }
  }

  #end(): void {
    for (const flow of this.#flows.values()) {
      flow.end();
    }
    this.#flows.clear();
  }
}

class Flow {
  readonly #options: UdpForwarderOptions;
  readonly #answer: (message: Uint8Array) => void;
  readonly #taps: readonly Tap[];
  #waiting: Buffer[] = [];
  #send: ((message: Buffer) => void) | undefined;
  #close: () => void = () => undefined;
  #isEnded = false;
  lastActiveMs: number;

  constructor(
    options: UdpForwarderOptions,
    { whole, taps }: PortPlan,
    from: RemoteInfo,
    answer: (message: Uint8Array) => void,
  ) {
    this.#options = options;
    this.#answer = answer;
    this.lastActiveMs = options.clock.nowMs();
    const caller: Caller = { protocol: 'udp', address: from.address, port: from.port };
    // Filters are for HTTP; a datagram matches none.
    this.#taps = taps.filter(({ matches }) => !matches).map((each) => new Tap(options, caller, each));
    void this.#open(caller, whole);
  }

  receive(message: Buffer): void {
    this.lastActiveMs = this.#options.clock.nowMs();
    for (const tap of this.#taps) {
      tap.write(message);
    }
    if (this.#send) {
      this.#send(message);
    } else if (this.#waiting.length < maxWaiting) {
      this.#waiting.push(message);
    }
  }

  end(): void {
    if (this.#isEnded) {
      return;
    }
    this.#isEnded = true;
    this.#waiting = [];
    for (const tap of this.#taps) {
      tap.end();
    }
    this.#close();
  }

  async #open(caller: Caller, whole: Diversion | undefined): Promise<void> {
    const pending = whole && this.#options.diverter.open(caller, whole);
    this.#close = () => pending?.cancel();
    const tunnel = await pending?.taken;
    if (this.#isEnded) {
      if (tunnel) {
        discard(tunnel);
      }
    } else if (tunnel) {
      this.#toDeveloper(tunnel);
    } else if (this.#options.hasApp !== false) {
      this.#toApp();
    }
  }

  #start(send: (message: Buffer) => void): void {
    this.#send = send;
    for (const message of this.#waiting.splice(0)) {
      send(message);
    }
  }

  #toDeveloper(tunnel: TakenTunnel): void {
    const { stream } = tunnel;
    let parts: Uint8Array[] = [];
    let isFull = false;
    this.#close = () => stream.finish();
    tunnel.attach({
      onControl: () => undefined,
      onData: (slice, last) => {
        parts.push(slice);
        if (last) {
          this.lastActiveMs = this.#options.clock.nowMs();
          this.#answer(parts.length === 1 ? slice : Buffer.concat(parts));
          parts = [];
        }
      },
      onEnd: () => undefined,
      onDrain: () => {
        isFull = false;
      },
      onClose: () => {
        // The developer is gone: the application has the next datagram.
        if (!this.#isEnded) {
          this.#send = undefined;
          this.#toApp();
        }
      },
    });
    this.#start((message) => {
      // Whoever reads too slowly loses datagrams here, as on a wire.
      if (!isFull) {
        isFull = !stream.sendData(message);
      }
    });
  }

  #toApp(): void {
    if (this.#options.hasApp === false) {
      return;
    }
    const ip = appIp(this.#options);
    const socket = createSocket(ip.length === 4 ? 'udp4' : 'udp6');
    this.#close = () => socket.close();
    // Nobody listens there: what was sent is lost, and what comes next is tried again.
    socket.on('error', () => undefined);
    socket.on('message', (message) => {
      this.lastActiveMs = this.#options.clock.nowMs();
      this.#answer(message);
    });
    socket.connect(this.#options.containerPort, formatIp(ip), () => {
      if (!this.#isEnded) {
        this.#start((message) => socket.send(message));
      }
    });
  }
}

function bind(type: 'udp4' | 'udp6', port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(type);
    socket.once('error', (error) => {
      socket.close();
      reject(error);
    });
    socket.bind(port, () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
  });
}
