import assert from 'node:assert/strict';
import { parseSubnet } from '../../../src/base/index.ts';
import type { Carrier } from '../../../src/daemon/flow/carrier.ts';
import { Pipeline } from '../../../src/daemon/flow/pipeline.ts';
import type { DialFrame, DialResult } from '../../../src/protocol/index.ts';
import { datagram, ip, type Segment, segment } from '../../unit/daemon/packets.ts';
import { HandClock } from '../../unit/manager/hand-clock.ts';
import type { Random } from '../random.ts';
import type { Target } from '../target.ts';
import { OffloadDevice } from './offload-device.ts';
import { cut, isSound, withoutSums, withPartialSum } from './packet-checks.ts';

const results: readonly DialResult[] = ['ok', 'ok', 'ok', 'refused', 'unreachable', 'timeout', 'prohibited'];
const flagSets: readonly number[] = [16, 24, 24, 16, 17, 4, 20];
const syn = 2;
const rst = 4;
const fin = 1;
/** What the pipeline holds for a flow that is being dialled. */
const maxWaiting = 64;
const maxWaitingBytes = 256 * 1024;
/** Longer than any flow, dial, probe or fragment lives. */
const lifeMs = 150_000;
const ownAddresses = { 4: '10.100.0.0', 6: 'fd00::' } as const;
const places = {
  4: ['10.100.3.1', '10.100.3.2', '10.100.0.0'],
  6: ['fd00::1', 'fd00::2', 'fd00::3'],
} as const;

interface ModelFlow {
  readonly id: number;
  readonly carrier: ModelCarrier;
  readonly own: string;
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
  readonly peerPort: number;
  /** `ended`: by the connector; the kernel may still deliver. */
  state: 'dialing' | 'open' | 'closing' | 'ended';
  finished: number;
  /** Datagrams only. */
  waiting: Uint8Array[];
}

interface ModelCarrier extends Carrier {
  readonly port4: number;
  readonly port6: number;
}

/** The pipeline beside a model of it: the input is a list of events, and each has the packets and frames it must have. */
class Model {
  readonly #device = new OffloadDevice();
  readonly #clock = new HandClock();
  readonly #pipeline = new Pipeline({ device: this.#device, clock: this.#clock, shortcutAfter: 2 });
  readonly #carriers = [this.#carrier(7_000), this.#carrier(7_001)] as const;
  #asked: DialFrame[] = [];
  #tcp: ModelFlow[] = [];
  #udp: ModelFlow[] = [];
  #isFirstHere = true;
  #fragmentId = 1;

  constructor() {
    this.#pipeline.carriers = this.#carriers;
    this.#pipeline.start();
  }

  run(input: Uint8Array, random: Random): void {
    let at = 0;
    const take = (): number => input[at++] ?? 0;
    while (at < input.length) {
      this.#event(take() % 10, take, random);
    }
  }

  settle(): void {
    for (const carrier of this.#carriers) {
      this.#pipeline.forget(carrier);
    }
    this.#clock.advance(lifeMs);
    this.#tcp = [];
    this.#udp = [];
    this.#asked = [];
    this.#device.written.splice(0);
    assert.deepEqual(this.#pipeline.flows, { tcp: 0, udp: 0, halfOpen: 0, short: 0 });
    assert.equal(this.#device.shortcut.size, 0);
    this.#isFirstHere = true;
    this.#pipeline.carriers = this.#carriers;
  }

  dispose(): void {
    this.#pipeline.dispose();
  }

  #carrier(port: number): ModelCarrier {
    return {
      ask: (frame) => {
        this.#asked.push(frame.type === 'datagram' ? { ...frame, payload: Uint8Array.from(frame.payload) } : frame);
        return true;
      },
      subnets: ['10.100.0.0/16', 'fd00::/16'].map((text) => parseSubnet(text) ?? assert.fail(text)),
      address4: ip(ownAddresses[4]),
      port4: port,
      address6: ip(ownAddresses[6]),
      port6: port,
    };
  }

  #event(kind: number, take: () => number, random: Random): void {
    const pick = <T>(from: readonly T[]): T | undefined => from[take() % Math.max(1, from.length)];
    const open = (flows: readonly ModelFlow[]) => flows.filter(({ state }) => state === 'open');
    const dialing = (flows: readonly ModelFlow[]) => flows.filter(({ state }) => state === 'dialing');
    switch (kind) {
      case 0:
        this.#connect(this.#ends(take));
        break;
      case 1:
        this.#answer(pick(dialing(this.#tcp)), pick(results) ?? 'ok');
        break;
      case 2:
      case 3: {
        const flow = pick(open(this.#tcp));
        const flags = pick(flagSets) ?? 16;
        const payload = 'abcdefgh'.repeat(take() % 4).slice(take() % 8);
        const isPartial = take() % 3 === 0;
        if (flow) {
          this.#pass(flow, kind === 2 ? 1 : 2, { flags, payload, isPartial });
        }
        break;
      }
      case 4:
        this.#send(this.#ends(take), random.bytes(take() * (take() % 12)), take, random);
        break;
      case 5:
        this.#answer(pick(dialing(this.#udp)), pick(results) ?? 'ok');
        break;
      case 6:
        this.#receive(pick(open(this.#udp)), random.bytes(take() * (take() % 4)));
        break;
      case 7:
        this.#wait(take() * (take() % 8 === 0 ? 300 : 10));
        break;
      case 8:
        this.#comeAndGo();
        break;
      default:
        this.#end(pick([...open(this.#tcp), ...open(this.#udp)]));
    }
  }

  #ends(take: () => number): Segment {
    const version = take() % 3 === 0 ? 6 : 4;
    const where = places[version];
    // Now and then a source other than the device's own: a container's.
    const source = take() % 5 === 0 ? { 4: '172.17.0.2', 6: 'fd77::2' }[version] : ownAddresses[version];
    return {
      source,
      sourcePort: 1_000 + (take() % 6),
      destination: where[take() % 2] ?? '',
      destinationPort: 80 + (take() % 3),
    };
  }

  #connect(ends: Segment): void {
    const known = this.#tcp.find((flow) => isSame(flow, ends));
    if (known?.state === 'open' || known?.state === 'ended') {
      return;
    }
    this.#device.inject(segment({ ...ends, flags: syn }));
    this.#expectWritten([]);
    const asked = this.#takeAsked();
    if (known?.state === 'dialing') {
      assert.deepEqual(asked, [], 'the dial is under way');
      return;
    }
    this.#tcp = this.#tcp.filter((flow) => flow !== known);
    const flow = this.#dialled(asked, 'tcp', ends);
    const others = this.#tcp.filter(({ destination, state }) => destination === ends.destination && isLive(state));
    assert.ok(!others.some(({ peerPort }) => peerPort === flow.peerPort), 'two flows with one peer port');
    this.#tcp.push(flow);
  }

  /** The one question that a new flow asks. */
  #dialled(asked: readonly DialFrame[], protocol: 'tcp' | 'udp', ends: Segment): ModelFlow {
    const [dial] = asked;
    assert.equal(asked.length, 1, `${asked.length} questions for one new flow`);
    assert.ok(dial?.type === 'dial' && dial.protocol === protocol);
    assert.deepEqual(
      [dial.source, dial.sourcePort, dial.destination, dial.destinationPort],
      [ip(ends.source), ends.sourcePort, ip(ends.destination), ends.destinationPort],
    );
    const all = [...this.#tcp, ...this.#udp];
    assert.ok(!all.some(({ id }) => id === dial.id), 'an id twice');
    const { source, sourcePort, destination, destinationPort } = ends;
    const carrier = this.#isFirstHere ? this.#carriers[0] : this.#carriers[1];
    const own = ownAddresses[source.includes(':') ? 6 : 4];
    const { id, peerPort } = dial;
    const place = { source, sourcePort, destination, destinationPort };
    return { id, carrier, own, ...place, peerPort, state: 'dialing', finished: 0, waiting: [] };
  }

  #answer(flow: ModelFlow | undefined, result: DialResult): void {
    if (!flow) {
      return;
    }
    this.#pipeline.receive(flow.carrier, { type: 'answer', id: flow.id, result });
    this.#pipeline.flush();
    if (result !== 'ok') {
      this.#tcp = this.#tcp.filter((each) => each !== flow);
      this.#udp = this.#udp.filter((each) => each !== flow);
      assert.equal(this.#takeWritten().length, result === 'timeout' ? 0 : 1);
      return;
    }
    flow.state = 'open';
    if (this.#tcp.includes(flow)) {
      this.#expectWritten([segment({ ...outward(flow), flags: syn })]);
    } else {
      assert.deepEqual(payloadsOf(this.#takeAsked(), flow.id), flow.waiting);
      flow.waiting = [];
    }
  }

  /** A segment of the program (side 1) or of the listener (side 2): the other is to see it with the same content. */
  #pass(flow: ModelFlow, side: 1 | 2, content: { flags: number; payload: string; isPartial: boolean }): void {
    const { flags, payload, isPartial } = content;
    const { source, sourcePort, destination, destinationPort } = flow;
    const program = { source, sourcePort, destination, destinationPort };
    const [from, to] = side === 1 ? [program, outward(flow)] : [swap(outward(flow)), swap(program)];
    const make = (ends: Segment): Uint8Array => {
      const packet = segment({ ...ends, flags, payload });
      return isPartial ? withPartialSum(packet) : packet;
    };
    this.#device.inject(make(from), isPartial);
    this.#expectWritten([make(to)], isPartial);
    flow.finished |= flags & fin ? side : 0;
    if (flags & rst || flow.finished === 3) {
      flow.state = 'closing';
    }
  }

  #send(ends: Segment, payload: Uint8Array, take: () => number, random: Random): void {
    const packet = datagram({ ...ends, source: ip(ends.source), destination: ip(ends.destination) }, payload);
    for (const piece of take() % 2 === 0 ? [packet] : this.#pieces(packet, 8 * (1 + take()), random)) {
      this.#device.inject(piece);
    }
    this.#expectWritten([]);
    const asked = this.#takeAsked();
    let flow = this.#udp.find((each) => isSame(each, ends));
    if (flow?.state === 'open') {
      assert.deepEqual(payloadsOf(asked, flow.id), [payload]);
      return;
    }
    if (!flow) {
      flow = this.#dialled(asked, 'udp', ends);
      this.#udp.push(flow);
    } else {
      assert.deepEqual(asked, []);
    }
    const size = flow.waiting.reduce((sum, { length }) => sum + length, 0);
    if (flow.waiting.length < maxWaiting && size + payload.length <= maxWaitingBytes) {
      flow.waiting.push(payload);
    }
  }

  /** In any order. */
  #pieces(packet: Uint8Array, size: number, random: Random): Uint8Array[] {
    const pieceBytes = Math.max(size, 8 * Math.ceil(packet.length / 400));
    const left = cut(packet, pieceBytes, this.#fragmentId++);
    // A last IPv4 fragment of less than eight bytes is not taken yet.
    if ((packet[0] ?? 0) >>> 4 === 4 && (left.at(-1)?.length ?? 0) < 28) {
      return [packet];
    }
    const pieces: Uint8Array[] = [];
    while (left.length > 0) {
      pieces.push(...left.splice(random.below(left.length), 1));
    }
    return pieces;
  }

  #receive(flow: ModelFlow | undefined, payload: Uint8Array): void {
    if (flow) {
      this.#pipeline.receive(flow.carrier, { type: 'datagram', id: flow.id, payload });
      this.#pipeline.flush();
      const { source, sourcePort, destination, destinationPort } = flow;
      const ends = { source: ip(destination), sourcePort: destinationPort, destination: ip(source) };
      this.#expectWritten([datagram({ ...ends, destinationPort: sourcePort }, payload)]);
    }
  }

  /** What has waited for too long is given up, and the connector is told of it. */
  #wait(ms: number): void {
    this.#clock.advance(ms);
    this.#takeWritten();
    const closed = this.#takeAsked().map((frame) => {
      assert.equal(frame.type, 'close');
      return 'id' in frame ? frame.id : 0;
    });
    this.#tcp = this.#tcp.filter(({ id, state }) => {
      assert.ok(!(closed.includes(id) && state === 'open'), 'a flow that is open was given up');
      return !closed.includes(id);
    });
    this.#udp = this.#udp.filter(({ id }) => !closed.includes(id));
  }

  /** The window that carries leaves, or comes back. */
  #comeAndGo(): void {
    const [first, second] = this.#carriers;
    this.#isFirstHere = !this.#isFirstHere;
    if (!this.#isFirstHere) {
      this.#pipeline.forget(first);
      this.#tcp = this.#tcp.filter(({ carrier, state }) => carrier !== first && state !== 'ended');
      this.#udp = this.#udp.filter(({ carrier }) => carrier !== first);
      this.#takeWritten();
      // Its connections end as the kernel ends its sockets; until then they are not of interest.
      this.#clock.advance(lifeMs);
      this.#wait(0);
    }
    this.#pipeline.carriers = this.#isFirstHere ? [first, second] : [second];
  }

  /** The connector says that a stream has ended. A datagram flow is gone, a connection goes on until its ends end it. */
  #end(flow: ModelFlow | undefined): void {
    if (flow) {
      this.#pipeline.receive(flow.carrier, { type: 'close', id: flow.id });
      this.#udp = this.#udp.filter((each) => each !== flow);
      flow.state = 'ended';
    }
  }

  #takeAsked(): DialFrame[] {
    const asked = this.#asked;
    this.#asked = [];
    return asked;
  }

  #takeWritten(): Uint8Array[] {
    const all = this.#device.written.splice(0);
    for (const { packet, isPartial } of all) {
      assert.ok(isPartial || isSound(packet) === true, `a wrong checksum: ${Buffer.from(packet).toString('hex')}`);
    }
    return all.map(({ packet }) => packet);
  }

  #expectWritten(expected: readonly Uint8Array[], isPartial = false): void {
    assert.ok(this.#device.written.every((each) => each.isPartial === isPartial));
    const written = this.#takeWritten();
    const canonical = (packet: Uint8Array): string =>
      Buffer.from(isPartial ? packet : withoutSums(packet)).toString('hex');
    assert.deepEqual(written.map(canonical), expected.map(canonical));
  }
}

const isLive = (state: ModelFlow['state']): boolean => state === 'dialing' || state === 'open';

const isSame = (flow: ModelFlow, ends: Segment): boolean =>
  flow.source === ends.source &&
  flow.sourcePort === ends.sourcePort &&
  flow.destination === ends.destination &&
  flow.destinationPort === ends.destinationPort;

/** A flow as the listener sees it. */
function outward({ own, destination, peerPort, carrier }: ModelFlow): Segment {
  return { source: destination, sourcePort: peerPort, destination: own, destinationPort: carrier.port4 };
}

const swap = ({ source, sourcePort, destination, destinationPort }: Segment): Segment => ({
  source: destination,
  sourcePort: destinationPort,
  destination: source,
  destinationPort: sourcePort,
});

function payloadsOf(frames: readonly DialFrame[], flow: number): Uint8Array[] {
  return frames.map((frame) => {
    assert.ok(frame.type === 'datagram' && frame.id === flow, 'a frame of another kind or flow');
    return frame.payload;
  });
}

/** Connections, datagrams and windows as they come and go; each packet must be there, right, and the only one. */
export function openFlowsTarget(): Target {
  const model = new Model();
  const connect = [0, 1, 1, 0, 0, 0];
  return {
    seeds: [
      Uint8Array.from([...connect, 1, 0, 0, 2, 0, 1, 2, 0, 1, 3, 0, 4, 1, 0, 0, 2, 0, 4, 0, 0, 1, 7, 200, 1]),
      Uint8Array.from([...connect, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 0, 0, 3, 0, 5, 1, 1, 1, 8, 8]),
      Uint8Array.from([4, 1, 1, 0, 0, 0, 200, 9, 0, 5, 0, 0, 4, 1, 1, 0, 0, 0, 250, 11, 1, 20, 6, 0, 99, 3, 7, 255, 8]),
      Uint8Array.from([4, 0, 0, 0, 0, 0, 20, 9, 1, 5, 5, 0, 3, 7, 255, 0, 9, 0]),
    ],
    run: (input, random) => model.run(input, random),
    settle: () => model.settle(),
    close: () => model.dispose(),
  };
}
