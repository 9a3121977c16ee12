import { connect, type Socket } from 'node:net';
import * as v from 'valibot';
import {
  createMessageConnection,
  type MessageConnection,
  ResponseError,
  StreamMessageReader,
  StreamMessageWriter,
} from 'vscode-jsonrpc/node';
import { type Clock, Emitter, fromPlainError, type NearfieldError, withTimeout } from '../../base/index.ts';
import {
  type AppliedNetwork,
  appliedNetworkSchema,
  attachResultSchema,
  type DaemonProbe,
  type DaemonStatus,
  type DesiredNetwork,
  type DialFrame,
  DialFrameReader,
  DialFrameWriter,
  daemonMethod,
  daemonProbeSchema,
  daemonStatusSchema,
  emptyParamsSchema,
  type HealthCondition,
  healthParamsSchema,
  type ListenParams,
  plainErrorSchema,
  serializeDialFrame,
} from '../../protocol/index.ts';
import type { DaemonSockets } from '../contract.ts';
import { daemonRefused, daemonUnreachable } from '../errors.ts';

const openTimeoutMs = 3_000;
const callTimeoutMs = 15_000;
/** Datagrams beyond this much unsent are dropped: UDP may lose, memory may not grow. */
const maxUnsentBytes = 8 * 1024 * 1024;

/** Both channels to the daemon. They end together. */
export class DaemonLink {
  readonly version: string;
  readonly #rpc: MessageConnection;
  readonly #control: Socket;
  readonly #dial: Socket;
  readonly #clock: Clock;
  readonly #frames = new Emitter<DialFrame>();
  readonly #closed = new Emitter<void>();
  readonly #writer: DialFrameWriter;
  #isFlushing = false;
  #isClosed = false;
  readonly onFrameReceived = this.#frames.event;
  readonly onLinkClosed = this.#closed.event;
  readonly #reapplied = new Emitter<AppliedNetwork>();
  /** The daemon had to apply the network differently: another program's route got in the way. */
  readonly onNetworkReapplied = this.#reapplied.event;
  readonly #conditions = new Emitter<readonly HealthCondition[]>();
  readonly onConditionsChanged = this.#conditions.event;
  readonly #woken = new Emitter<void>();
  /** The machine has slept. */
  readonly onMachineWoken = this.#woken.event;

  private constructor(parts: { version: string; rpc: MessageConnection; control: Socket; dial: Socket; clock: Clock }) {
    this.version = parts.version;
    this.#rpc = parts.rpc;
    this.#control = parts.control;
    this.#dial = parts.dial;
    this.#clock = parts.clock;
    const { dial } = parts;
    this.#writer = new DialFrameWriter((bytes) => {
      dial.write(bytes);
      return dial.writableLength === 0;
    });
    const reader = new DialFrameReader();
    this.#dial.on('data', (chunk) => {
      reader.push(chunk);
      for (let read = reader.read(); read.kind !== 'need-more'; read = reader.read()) {
        if (read.kind === 'malformed') {
          this.close();
          return;
        }
        this.#frames.fire(read.value);
      }
    });
    this.#hear(daemonMethod.applied, appliedNetworkSchema, (applied) => this.#reapplied.fire(applied));
    this.#hear(daemonMethod.health, healthParamsSchema, ({ conditions }) => this.#conditions.fire(conditions));
    this.#hear(daemonMethod.woke, emptyParamsSchema, () => this.#woken.fire());
    this.#dial.on('close', () => this.close());
    this.#control.on('close', () => this.close());
  }

  /** Errors: `connector.daemon-unreachable`, `connector.daemon-refused`. */
  static async open(sockets: DaemonSockets, clock: Clock): Promise<DaemonLink> {
    const control = await openSocket(sockets.control, clock);
    const rpc = startRpc(control);
    try {
      const { token, daemonVersion } = await ask(
        rpc,
        clock,
        daemonMethod.attach,
        { name: 'connector', pid: process.pid },
        attachResultSchema,
      );
      const dial = await openSocket(sockets.dial, clock);
      dial.write(serializeDialFrame({ type: 'hello', token }));
      return new DaemonLink({ version: daemonVersion, rpc, control, dial, clock });
    } catch (error) {
      rpc.dispose();
      control.destroy();
      throw error;
    }
  }

  /** What is not understood is not for us. */
  #hear<S extends v.GenericSchema>(method: string, schema: S, tell: (params: v.InferOutput<S>) => void): void {
    this.#rpc.onNotification(method, (params: unknown) => {
      const parsed = v.safeParse(schema, params);
      if (parsed.success) {
        tell(parsed.output);
      }
    });
  }

  apply(network: DesiredNetwork): Promise<AppliedNetwork> {
    return ask(this.#rpc, this.#clock, daemonMethod.apply, { network }, appliedNetworkSchema);
  }

  async listen(ports: ListenParams): Promise<void> {
    await withTimeout(this.#clock, callTimeoutMs, 'the daemon', () =>
      this.#rpc.sendRequest(daemonMethod.listen, ports),
    );
  }

  status(): Promise<DaemonStatus> {
    return ask(this.#rpc, this.#clock, daemonMethod.status, {}, daemonStatusSchema);
  }

  /** Frames of one turn of the loop leave together. */
  send(frame: DialFrame): void {
    if (!this.#isClosed && !(frame.type === 'datagram' && this.#dial.writableLength > maxUnsentBytes)) {
      this.#writer.put(frame);
      if (!this.#isFlushing) {
        this.#isFlushing = true;
        process.nextTick(() => {
          this.#isFlushing = false;
          this.#flush();
        });
      }
    }
  }

  #flush(): void {
    if (!this.#isClosed) {
      this.#writer.flush();
    }
  }

  /** Closing the control socket is leaving: the daemon takes the network down. */
  close(): void {
    if (!this.#isClosed) {
      this.#isClosed = true;
      this.#rpc.dispose();
      this.#control.destroy();
      this.#dial.destroy();
      this.#closed.fire();
    }
  }
}

/** Undefined when nobody answers. */
export function probeDaemon(sockets: DaemonSockets, clock: Clock): Promise<DaemonProbe | undefined> {
  return withControl(sockets, clock, (rpc) => ask(rpc, clock, daemonMethod.status, {}, daemonProbeSchema)).catch(
    () => undefined,
  );
}

/** Asks a daemon that nobody uses to end. Errors: `connector.daemon-refused`, `connector.daemon-unreachable`. */
export function quitDaemon(sockets: DaemonSockets, clock: Clock): Promise<void> {
  return withControl(sockets, clock, async (rpc) => {
    await ask(rpc, clock, daemonMethod.quit, {}, v.object({}));
  });
}

async function withControl<T>(
  sockets: DaemonSockets,
  clock: Clock,
  work: (rpc: MessageConnection) => Promise<T>,
): Promise<T> {
  const control = await openSocket(sockets.control, clock);
  const rpc = startRpc(control);
  try {
    return await work(rpc);
  } finally {
    rpc.dispose();
    control.destroy();
  }
}

function openSocket(path: string, clock: Clock): Promise<Socket> {
  return withTimeout(
    clock,
    openTimeoutMs,
    'opening the daemon’s socket',
    (signal) =>
      new Promise<Socket>((resolve, reject) => {
        const socket = connect(path);
        socket.on('error', (error) => reject(daemonUnreachable(error)));
        socket.once('connect', () => resolve(socket));
        signal.addEventListener('abort', () => socket.destroy(), { once: true });
      }),
  ).then((socket) => {
    // The limit's signal must not end a socket that is in use.
    socket.on('error', () => socket.destroy());
    return socket;
  });
}

function startRpc(socket: Socket): MessageConnection {
  const rpc = createMessageConnection(new StreamMessageReader(socket), new StreamMessageWriter(socket));
  rpc.onError(() => socket.destroy());
  rpc.listen();
  return rpc;
}

async function ask<S extends v.GenericSchema>(
  rpc: MessageConnection,
  clock: Clock,
  method: string,
  params: object,
  schema: S,
): Promise<v.InferOutput<S>> {
  const answer: unknown = await withTimeout(clock, callTimeoutMs, 'the daemon', () =>
    rpc.sendRequest(method, params),
  ).catch((error: unknown) => {
    throw error instanceof ResponseError ? refusalOf(error) : daemonUnreachable(error);
  });
  const parsed = v.safeParse(schema, answer);
  if (!parsed.success) {
    throw daemonRefused(`the daemon's answer to ${method} is not understood`);
  }
  return parsed.output;
}

/** The daemon's own reason and hint, where it gives them. */
function refusalOf(error: ResponseError<unknown>): NearfieldError {
  const parsed = v.safeParse(plainErrorSchema, error.data);
  return parsed.success ? fromPlainError(parsed.output) : daemonRefused(error.message);
}
