import { createSocket } from 'node:dgram';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo, Server } from 'node:net';
import { join } from 'node:path';
import { repositoryRoot } from '../paths.ts';
import type { Way } from './workloads.ts';

const load = createRequire(import.meta.url);
const sample = (name: string): unknown => load(join(repositoryRoot, 'test/cluster/samples', `${name}.cjs`));
const { serve: serveRpc } = sample('rpc') as { serve(who: (path: string) => string): Server };
const webSocket = sample('web-socket') as {
  serve(request: object, socket: object, answer: (text: string) => string): void;
};

/** A developer's program: it answers that it is the laptop, and remembers what it was asked. */
export interface Program {
  readonly port: number;
  readonly heard: readonly string[];
  close(): void;
}

export async function startProgram(way: Way): Promise<Program> {
  const heard: string[] = [];
  const answer = (text: string): string => {
    heard.push(text);
    return `laptop ${text}`;
  };
  if (way === 'udp') {
    const socket = createSocket('udp4');
    socket.on('message', (message, from) => socket.send(answer(String(message)), from.port, from.address));
    await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
    return { port: socket.address().port, heard, close: () => socket.close() };
  }
  const server =
    way === 'rpc' ? serveRpc(answer) : createServer((request, response) => response.end(answer(request.url ?? '')));
  server.on('upgrade', (request: object, socket: object) => webSocket.serve(request, socket, answer));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { port: (server.address() as AddressInfo).port, heard, close: () => server.close() };
}
