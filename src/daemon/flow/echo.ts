import { formatIp } from '../../base/index.ts';
import type { DialResult } from '../../protocol/index.ts';
import { buildEchoReply } from '../packet/build.ts';
import { PacketView } from '../packet/view.ts';
import type { PacketWriter } from '../packet/writer.ts';
import type { Carrier } from './carrier.ts';
import type { Drops } from './drops.ts';
import type { Replies } from './replies.ts';

export interface EchoDeps {
  readonly carrierOf: (destination: Uint8Array) => Carrier | undefined;
  readonly replies: Replies;
  readonly writer: PacketWriter;
  readonly drops: Drops;
}

interface Probe {
  readonly id: number;
  readonly key: string;
  readonly carrier: Carrier;
  /** The last request that waits. */
  held: Uint8Array | undefined;
  result: DialResult | undefined;
  untilMs: number;
}

const maxProbes = 256;
const probeLimitMs = 10_000;
const knownMs = 10_000;
const firstId = 0xc0000001;
const lastId = 0xfffffffe;
/** Nobody listens on *discard*: a host that is there refuses, and that is the answer. */
const probePort = 9;

/**
 * `ping`. Echoes cannot travel through a tunnel of connections, so a connection is tried in their place: whoever
 * refuses or accepts is there, and gets its echo answered here; whoever is unreachable is said to be.
 */
export class Echoes {
  readonly #deps: EchoDeps;
  readonly #view = new PacketView();
  readonly #byAddress = new Map<string, Probe>();
  readonly #byId = new Map<number, Probe>();
  #nextId = firstId;

  constructor(deps: EchoDeps) {
    this.#deps = deps;
  }

  /** An echo request from a program. */
  request(view: PacketView, nowMs: number): void {
    const { drops, carrierOf } = this.#deps;
    const destination = view.destination;
    const key = formatIp(destination);
    const known = this.#byAddress.get(key);
    if (known && known.untilMs > nowMs) {
      known.held = view.packet;
      this.#reply(known);
      return;
    }
    if (known) {
      this.#forget(known);
    }
    const carrier = carrierOf(destination);
    if (!carrier || this.#byAddress.size >= maxProbes) {
      drops.add(carrier ? 'table-full' : 'no-carrier');
      return;
    }
    this.#nextId = this.#nextId >= lastId ? firstId : this.#nextId + 1;
    const id = this.#nextId;
    const { source } = view;
    const ends = { source, sourcePort: 0, destination, destinationPort: probePort, peerPort: 0 };
    if (!carrier.ask({ type: 'dial', id, protocol: 'tcp', ...ends })) {
      drops.add('connector-full');
      return;
    }
    const probe: Probe = { id, key, carrier, held: view.packet, result: undefined, untilMs: nowMs + probeLimitMs };
    this.#byAddress.set(key, probe);
    this.#byId.set(id, probe);
  }

  /** True when the id is one of a probe. */
  answer(carrier: Carrier, id: number, result: DialResult, nowMs: number): boolean {
    const probe = this.#byId.get(id);
    if (probe?.carrier !== carrier) {
      return false;
    }
    if (result === 'ok') {
      carrier.ask({ type: 'close', id });
    }
    probe.result = result;
    probe.untilMs = nowMs + knownMs;
    this.#reply(probe);
    return true;
  }

  forgetAll(carrier: Carrier): void {
    for (const probe of this.#byId.values()) {
      if (probe.carrier === carrier) {
        this.#forget(probe);
      }
    }
  }

  sweep(nowMs: number): void {
    for (const probe of this.#byId.values()) {
      if (probe.untilMs <= nowMs) {
        this.#forget(probe);
      }
    }
  }

  #reply(probe: Probe): void {
    const { held, result } = probe;
    if (!held || !result) {
      return;
    }
    probe.held = undefined;
    if (result === 'ok' || result === 'refused') {
      const { writer } = this.#deps;
      this.#view.parse(held, 0, held.length);
      const at = writer.reserve(held.length);
      writer.commit(buildEchoReply({ bytes: writer.buffer, at }, this.#view));
    } else {
      this.#deps.replies.failure(held, result);
    }
  }

  #forget(probe: Probe): void {
    this.#byId.delete(probe.id);
    this.#byAddress.delete(probe.key);
  }
}
