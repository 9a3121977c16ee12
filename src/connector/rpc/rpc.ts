import {
  Emitter,
  fromPlainError,
  type Logger,
  type LogLevel,
  logLevels,
  type PlainError,
  toPlainError,
} from '../../base/index.ts';
import { type Connector, type ConnectorSnapshot, emptySnapshot } from '../contract.ts';
import { badRequest, workerEnded } from '../errors.ts';

/** The calls that cross to another thread or process; the snapshot comes by itself. */
const methods = [
  'inspect',
  'connect',
  'attachDaemon',
  'disconnect',
  'attach',
  'cancelAttach',
  'leave',
  'environment',
  'proxyEnvironment',
  'setLogLevel',
  'previewInstall',
  'install',
  'cancelInstall',
  'uninstall',
  'probeDaemon',
  'quitDaemon',
] as const satisfies (keyof Connector)[];
export type Method = (typeof methods)[number];

/** Anything that carries whole messages in order: a MessagePort, or lines on a socket. */
export interface Channel {
  send(message: Message): void;
  receive(listener: (message: unknown) => void): void;
}

export type Message =
  | { readonly type: 'call'; readonly id: number; readonly method: Method; readonly params: readonly unknown[] }
  | { readonly type: 'result'; readonly id: number; readonly value: unknown }
  | { readonly type: 'error'; readonly id: number; readonly error: PlainError }
  | { readonly type: 'snapshot'; readonly snapshot: ConnectorSnapshot }
  | {
      readonly type: 'log';
      readonly level: LogLevel;
      readonly scope: string;
      readonly message: string;
      readonly fields: Record<string, unknown>;
    };

const isMessage = (value: unknown): value is Message => typeof value === 'object' && value !== null && 'type' in value;

/** Answers calls with a connector. Resolves a call at a time per id; the order of answers is that of completion. */
export function serveConnector(connector: Connector, channel: Channel): { dispose(): void } {
  channel.receive((message) => {
    if (!isMessage(message) || message.type !== 'call') {
      return;
    }
    const { id, method, params } = message;
    if (!methods.includes(method)) {
      channel.send({
        type: 'error',
        id,
        error: toPlainError(badRequest(`there is no method ${String(method).slice(0, 40)}`)),
      });
      return;
    }
    const call = connector[method] as (...args: readonly unknown[]) => Promise<unknown>;
    call.apply(connector, [...params]).then(
      (value) => channel.send({ type: 'result', id, value }),
      (error: unknown) => channel.send({ type: 'error', id, error: toPlainError(error) }),
    );
  });
  channel.send({ type: 'snapshot', snapshot: connector.snapshot });
  const subscription = connector.onSnapshotChanged((snapshot) => channel.send({ type: 'snapshot', snapshot }));
  return { dispose: () => void subscription.dispose() };
}

/** A connector that lives at the other end of a channel. */
export function connectorOver(channel: Channel, log: Logger, end: () => Promise<void>): Connector & { fail(): void } {
  const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: unknown) => void }>();
  const changed = new Emitter<ConnectorSnapshot>();
  let snapshot = emptySnapshot;
  let nextId = 1;
  let isEnded = false;
  channel.receive((message) => {
    if (!isMessage(message)) {
      return;
    }
    switch (message.type) {
      case 'snapshot':
        snapshot = message.snapshot;
        changed.fire(snapshot);
        break;
      case 'result':
        waiting.get(message.id)?.resolve(message.value);
        waiting.delete(message.id);
        break;
      case 'error':
        waiting.get(message.id)?.reject(fromPlainError(message.error));
        waiting.delete(message.id);
        break;
      case 'log':
        if (logLevels.includes(message.level)) {
          log.child(message.scope)[message.level](message.message, message.fields);
        }
        break;
      default:
        break;
    }
  });
  const call = (method: Method, ...params: unknown[]): Promise<never> =>
    new Promise((resolve, reject) => {
      if (isEnded) {
        reject(workerEnded());
        return;
      }
      const id = nextId++;
      waiting.set(id, { resolve: resolve as (value: unknown) => void, reject });
      channel.send({ type: 'call', id, method, params });
    });
  const fail = (): void => {
    isEnded = true;
    for (const { reject } of waiting.values()) {
      reject(workerEnded());
    }
    waiting.clear();
    snapshot = { ...emptySnapshot, connection: { state: 'failed', error: toPlainError(workerEnded()) } };
    changed.fire(snapshot);
  };
  return {
    get snapshot() {
      return snapshot;
    },
    onSnapshotChanged: changed.event,
    inspect: (choice) => call('inspect', choice),
    connect: (request) => call('connect', request),
    attachDaemon: (sockets) => call('attachDaemon', sockets),
    disconnect: () => call('disconnect'),
    attach: (request, attempt) => call('attach', request, attempt),
    cancelAttach: (attempt) => call('cancelAttach', attempt),
    leave: (name) => call('leave', name),
    environment: (name) => call('environment', name),
    proxyEnvironment: () => call('proxyEnvironment'),
    setLogLevel: (level, minutes) => call('setLogLevel', level, minutes),
    previewInstall: (request) => call('previewInstall', request),
    install: (request) => call('install', request),
    cancelInstall: () => call('cancelInstall'),
    uninstall: (request) => call('uninstall', request),
    probeDaemon: (sockets) => call('probeDaemon', sockets),
    quitDaemon: (sockets) => call('quitDaemon', sockets),
    dispose: async () => {
      isEnded = true;
      await end();
    },
    fail,
  };
}
