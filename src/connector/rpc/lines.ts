import { mkdirSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { type Clock, withTimeout } from '../../base/index.ts';
import type { Connector } from '../contract.ts';
import { badRequest } from '../errors.ts';
import { type Channel, serveConnector } from './rpc.ts';

/** A request carries a few names; a snapshot of thousands of workloads goes the other way only. */
const maxLineLength = 64 * 1024 * 1024;
const openTimeoutMs = 2_000;

/** Whole messages as lines of JSON. A peer whose line never ends is hung up on. */
export function lineChannel(socket: Socket): Channel {
  let rest = '';
  const listeners: ((message: unknown) => void)[] = [];
  socket.setEncoding('utf8');
  socket.on('error', () => socket.destroy());
  socket.on('data', (text: string) => {
    const parts = (rest + text).split('\n');
    rest = parts.pop() ?? '';
    if (rest.length > maxLineLength) {
      socket.destroy();
      return;
    }
    for (const part of parts) {
      const message = parse(part);
      for (const listener of listeners) {
        listener(message);
      }
    }
  });
  return {
    send: (message) => {
      if (!socket.destroyed) {
        socket.write(`${JSON.stringify(message)}\n`);
      }
    },
    receive: (listener) => void listeners.push(listener),
  };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Serves a connector to other processes of the user: the folder is the user's alone. */
export function serveOnSocket(connector: Connector, path: string): Promise<Server> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  rmSync(path, { force: true });
  const server = createServer((socket) => {
    const serving = serveConnector(connector, lineChannel(socket));
    socket.on('close', () => serving.dispose());
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => resolve(server));
  });
}

/** Rejects when nobody serves there. */
export function openSocket(path: string, clock: Clock): Promise<Socket> {
  return withTimeout(
    clock,
    openTimeoutMs,
    'reaching the connector',
    () =>
      new Promise<Socket>((resolve, reject) => {
        const socket = connect(path, () => resolve(socket));
        socket.on('error', () => reject(badRequest('no connector is running: start one with `nearfield connect`')));
      }),
  );
}
