/**
 * The other end of a daemon in the device bench: says yes to every dial, sends datagrams back, and listens, or lets a
 * C sink listen. Arguments: runtime folder, uid, `node` or the C sink's port. Prints the port that a client may use.
 */
import { createServer, type Socket } from 'node:net';
import { systemClock } from '../../../src/base/index.ts';
import { DaemonLink } from '../../../src/connector/daemon-link/link.ts';
import { daemonSocketPaths } from '../../../src/protocol/index.ts';
import { addressRecord } from '../../support/fake-connector.ts';

const headerBytes = 16;
const answerBytes = 64;
const block = Buffer.alloc(256 * 1024);

/** The load server's protocol: an operation and its milliseconds, then up, down, echo, or one answer. */
export function serveLoad(socket: Socket): void {
  let header: Buffer = Buffer.alloc(0);
  let received = 0n;
  socket.on('error', () => socket.destroy());
  const handle = (chunk: Buffer): void => {
    if (header.length < headerBytes) {
      const all = Buffer.concat([header, chunk]);
      header = all.subarray(0, headerBytes);
      const operation = header.toString('latin1', 0, 1);
      if (all.length < headerBytes) {
        return;
      }
      if (operation === 'D') {
        pour(socket, performance.now() + header.readUInt32LE(4));
      } else if (operation === 'R') {
        socket.end(block.subarray(0, answerBytes));
      }
      if (all.length > headerBytes) {
        handle(all.subarray(headerBytes));
      }
      return;
    }
    received += BigInt(chunk.length);
    if (header[0] === 'E'.charCodeAt(0)) {
      socket.write(Buffer.from(chunk));
    }
  };
  socket.on('data', handle);
  socket.on('end', () => {
    const count = Buffer.alloc(8);
    count.writeBigUInt64LE(received);
    socket.end(header[0] === 'U'.charCodeAt(0) ? count : Buffer.alloc(0));
  });
}

function pour(socket: Socket, end: number): void {
  const more = (): void => {
    while (performance.now() < end) {
      if (!socket.write(block)) {
        socket.once('drain', more);
        return;
      }
    }
    socket.end();
  };
  more();
}

function listen(host: string): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, serveLoad);
    server.listen({ port: 0, host, backlog: 4_096 }, () => {
      const address = server.address();
      resolve(typeof address === 'object' && address ? address.port : 0);
    });
  });
}

const [mode = '', runtime = '', sink = ''] = process.argv.slice(2);
if (mode === 'bare') {
  process.stdout.write(`${await listen('127.0.0.1')}\n`);
} else {
  const link = await DaemonLink.open(daemonSocketPaths(0, runtime), systemClock);
  const applied = await link.apply({
    cluster: 'bench',
    subnets: ['10.201.0.0/16'],
    neverProxy: [],
    allowConflicting: [],
    virtualSubnets: [],
    dns: {
      clusterDomain: 'cluster.local',
      namespace: 'default',
      routedDomains: ['svc'],
      includeSuffixes: [],
      excludeSuffixes: [],
      excludes: [],
      mappings: [],
      timeoutMs: 4_000,
    },
  });
  link.onFrameReceived((frame) => {
    if (frame.type === 'dial') {
      link.send({ type: 'answer', id: frame.id, result: 'ok' });
    } else if (frame.type === 'datagram') {
      link.send({ type: 'datagram', id: frame.id, payload: frame.payload });
    } else if (frame.type === 'lookup') {
      const records = addressRecord(frame.name, frame.qtype, '10.201.7.7') ?? new Uint8Array(0);
      link.send({ type: 'lookup-answer', id: frame.id, rcode: 0, records });
    }
  });
  const port4 = sink === 'node' ? await listen(applied.address4 ?? '') : Number(sink);
  await link.listen({ port4 });
  process.stdout.write(`${port4}\n`);
}
