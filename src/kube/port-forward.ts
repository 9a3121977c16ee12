import type { ClientRequestArgs } from 'node:http';
import { Duplex } from 'node:stream';
import WebSocket from 'ws';
import { type Disposable, systemClock } from '../base/index.ts';
import { forwardFailed } from './errors.ts';
import { proxyAgentOf, type Requester } from './request.ts';

export interface PortForwardOptions {
  readonly namespace: string;
  readonly pod: string;
  readonly port: number;
  readonly signal?: AbortSignal | undefined;
}

const openTimeoutMs = 10_000;
const pingPeriodMs = 15_000;
/** Bytes that may wait on either side of the WebSocket before the stream says "full". */
const bufferBytes = 1024 * 1024;
/** Whoever unpacks a message in the cluster reads it whole, and copies a larger one as often as its memory has to grow. */
const maxMessageBytes = 64 * 1024;
const dataChannel = 0;
const errorChannel = 1;

/**
 * One forwarded port as a duplex that honours back-pressure in both directions, which the client library's does
 * not. Protocol `v4.channel.k8s.io`: each message begins with a channel number; the first message of a channel
 * repeats the port. It carries no half-close: ending one side ends the forward.
 */
export async function openPortForward(requester: Requester, options: PortForwardOptions): Promise<Duplex> {
  const { namespace, pod, port, signal } = options;
  const base = requester.server.replace(/^http/, 'ws').replace(/\/$/, '');
  const url = `${base}/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(pod)}/portforward?ports=${port}`;
  const { agent, ...tls } = await requester.options();
  const proxyAgent = proxyAgentOf(agent);
  const socket = new WebSocket(url, 'v4.channel.k8s.io', {
    ...(tls as ClientRequestArgs),
    ...(proxyAgent ? { agent: proxyAgent } : {}),
    perMessageDeflate: false,
    skipUTF8Validation: true,
    handshakeTimeout: openTimeoutMs,
    maxPayload: 16 * bufferBytes,
    // A mask keeps a script in a browser from choosing what a proxy on the way sees. Within TLS nobody sees it, and zeros
    // are a mask that costs neither a copy nor a look at every byte.
    ...(base.startsWith('wss:') ? { generateMask: (mask: Buffer) => void mask.fill(0) } : {}),
  });
  socket.binaryType = 'nodebuffer';
  await opened(socket, pod, signal);
  return forwardDuplex(socket, pod);
}

function opened(socket: WebSocket, pod: string, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = (): void => socket.terminate();
    const end = (): void => signal?.removeEventListener('abort', abort);
    signal?.addEventListener('abort', abort, { once: true });
    socket.once('open', () => {
      // A server that speaks first does so before the duplex is made: nothing is read until then.
      socket.pause();
      end();
      resolve();
    });
    // Stays for the socket's life: an error without a listener would end the process.
    socket.on('error', (error) => {
      end();
      reject(forwardFailed(pod, error.message, error));
    });
    socket.once('close', () => {
      end();
      reject(forwardFailed(pod, 'closed while opening'));
    });
    if (signal?.aborted) {
      abort();
    }
  });
}

function forwardDuplex(socket: WebSocket, pod: string): Duplex {
  const seen = [false, false];
  const duplex = new Duplex({
    readableHighWaterMark: bufferBytes,
    writableHighWaterMark: bufferBytes,
    read: () => socket.resume(),
    write(chunk: Buffer, _encoding, done) {
      send(socket, [chunk], done);
    },
    writev(chunks, done) {
      send(
        socket,
        chunks.map(({ chunk }) => chunk as Buffer),
        done,
      );
    },
    final(done) {
      socket.close();
      done();
    },
    destroy(error, done) {
      void ping.dispose();
      socket.terminate();
      done(error);
    },
  });
  const ping = keepOpen(socket);
  socket.on('message', (message: Buffer) => {
    const channel = message[0] ?? -1;
    if (channel !== dataChannel && channel !== errorChannel) {
      return;
    }
    if (!seen[channel]) {
      seen[channel] = true;
      return;
    }
    if (channel === errorChannel) {
      duplex.destroy(forwardFailed(pod, message.subarray(1).toString('utf8').slice(0, 300)));
    } else if (!duplex.push(message.subarray(1))) {
      socket.pause();
    }
  });
  socket.on('close', () => {
    void ping.dispose();
    if (!duplex.destroyed) {
      duplex.push(null);
      duplex.destroy();
    }
  });
  return duplex;
}

/** The callback is called when the last message has been handed to the kernel: that is the back-pressure. */
function send(socket: WebSocket, chunks: readonly Buffer[], done: (error?: Error | null) => void): void {
  if (socket.readyState !== WebSocket.OPEN) {
    done(forwardFailed('', 'the connection is closed'));
    return;
  }
  let left = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  if (left === 0) {
    done();
    return;
  }
  let [index, at] = [0, 0];
  while (left > 0) {
    const length = Math.min(left, maxMessageBytes - 1);
    const message = Buffer.allocUnsafe(length + 1);
    message[0] = dataChannel;
    for (let filled = 1; filled <= length; ) {
      const chunk = chunks[index] ?? message;
      const copied = chunk.copy(message, filled, at);
      filled += copied;
      at += copied;
      if (at === chunk.length) {
        index++;
        at = 0;
      }
    }
    left -= length;
    socket.send(message, { binary: true }, left > 0 ? undefined : done);
  }
}

function keepOpen(socket: WebSocket): Disposable {
  return systemClock.every(pingPeriodMs, () => {
    if (socket.readyState === WebSocket.OPEN) {
      socket.ping();
    }
  });
}
