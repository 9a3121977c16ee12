import { randomBytes } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import { type GenericSchema, type InferOutput, safeParse } from 'valibot';
import {
  createMessageConnection,
  ErrorCodes,
  type MessageConnection,
  ResponseError,
  StreamMessageReader,
  StreamMessageWriter,
} from 'vscode-jsonrpc/node';
import {
  type Clock,
  type Logger,
  type NearfieldError,
  type PlainError,
  toError,
  toPlainError,
} from '../../base/index.ts';
import {
  type AppliedNetwork,
  applyParamsSchema,
  attachParamsSchema,
  clientVersion,
  type DaemonStatus,
  type DesiredNetwork,
  daemonMethod,
  daemonProtocolVersion,
  emptyParamsSchema,
  type ListenParams,
  listenParamsSchema,
} from '../../protocol/index.ts';
import { badRequest, notAttached } from '../errors.ts';

/** One connector, from its attach to the end of its socket. */
export interface ControlClient {
  readonly token: string;
  readonly name: string;
  /** Says something without being asked; what a window that is gone does not hear is lost. */
  readonly notify: (method: string, params: object) => void;
}

export interface ControlHandlers {
  attached(client: ControlClient): void;
  apply(client: ControlClient, network: DesiredNetwork): Promise<AppliedNetwork>;
  listen(client: ControlClient, ports: ListenParams): void;
  status(): DaemonStatus;
  /** Idempotent; also called when the socket ends. */
  detached(client: ControlClient): Promise<void>;
  quit(): Promise<void>;
}

export interface ControlOptions {
  readonly uid: number;
  readonly clock: Clock;
  readonly handlers: ControlHandlers;
  readonly log: Logger;
}

const maxConnections = 32;
const maxMessageBytes = 1024 * 1024;
/** A connector sends a handful when namespaces change. */
const maxRequestsPerSecond = 100;
/** Whoever connects says something, or is in the way of others. */
const firstRequestMs = 10_000;

/** The local API. The socket's folder belongs to one user; every message is checked all the same. */
export function createControlServer(options: ControlOptions): Server {
  const server = createServer((socket) => serve(socket, options));
  server.maxConnections = maxConnections;
  return server;
}

function serve(socket: Socket, { uid, clock, handlers, log }: ControlOptions): void {
  let client: ControlClient | undefined;
  let received = 0;
  let requests = 0;
  let secondBegan = clock.nowMs();
  const silence = clock.after(firstRequestMs, () => socket.destroy());
  const reader = new StreamMessageReader(socket);
  // Its timer for half a message starts itself again for ever, also after the connection is gone.
  reader.partialMessageTimeout = 0;
  const rpc = createMessageConnection(reader, new StreamMessageWriter(socket));
  const required = (): ControlClient => {
    if (!client) {
      throw notAttached();
    }
    return client;
  };
  // A message that never ends would fill the reader's memory.
  socket.on('data', (chunk) => {
    received += chunk.length;
    if (received > maxMessageBytes) {
      log.warn('control connection ended: message too long');
      socket.destroy();
    }
  });
  const on = <S extends GenericSchema>(
    method: string,
    schema: S,
    handle: (params: InferOutput<S>) => unknown,
  ): void => {
    rpc.onRequest(method, async (params: unknown) => {
      received = 0;
      void silence.dispose();
      if (clock.nowMs() - secondBegan > 1_000) {
        secondBegan = clock.nowMs();
        requests = 0;
      }
      if (++requests > maxRequestsPerSecond) {
        log.warn('control connection ended: too many requests');
        socket.destroy();
        throw refusal(ErrorCodes.InvalidRequest, badRequest('too many requests'));
      }
      const parsed = safeParse(schema, params ?? {});
      if (!parsed.success) {
        throw refusal(ErrorCodes.InvalidParams, badRequest(parsed.issues.map(({ message }) => message).join('; ')));
      }
      try {
        return await handle(parsed.output);
      } catch (thrown) {
        const error = toError(thrown);
        log.info('request refused', { method, reason: error.reason, error });
        throw refusal(ErrorCodes.InternalError, error);
      }
    });
  };
  on(daemonMethod.attach, attachParamsSchema, ({ name }) => {
    client ??= {
      token: randomBytes(32).toString('hex'),
      name,
      notify: (method, params) => void rpc.sendNotification(method, params).catch(() => undefined),
    };
    handlers.attached(client);
    return { token: client.token, daemonVersion: clientVersion, protocolVersion: daemonProtocolVersion, uid };
  });
  on(daemonMethod.apply, applyParamsSchema, ({ network }) => handlers.apply(required(), network));
  on(daemonMethod.listen, listenParamsSchema, (ports) => {
    handlers.listen(required(), ports);
    return {};
  });
  on(daemonMethod.status, emptyParamsSchema, () => handlers.status());
  on(daemonMethod.detach, emptyParamsSchema, async () => {
    await handlers.detached(required());
    return {};
  });
  on(daemonMethod.quit, emptyParamsSchema, async () => {
    await handlers.quit();
    return {};
  });
  end(rpc, socket, async () => {
    void silence.dispose();
    if (client) {
      await handlers.detached(client);
    }
  });
  rpc.listen();
}

/** The reason and the hint travel beside the message: the other side shows them as its own. */
function refusal(code: number, error: NearfieldError): ResponseError<PlainError> {
  return new ResponseError(code, error.message, toPlainError(error));
}

function end(rpc: MessageConnection, socket: Socket, ended: () => Promise<void>): void {
  rpc.onError(() => socket.destroy());
  socket.on('error', () => socket.destroy());
  socket.on('close', () => {
    rpc.dispose();
    void ended();
  });
}
