import { createServer as createUpgrades, type IncomingMessage } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import type { Clock } from '../../base/index.ts';
import { type Caller, callerAt } from './caller.ts';
import type { Guests, Leave } from './guests.ts';
import { muxPreface } from './mux/opening.ts';

/**
 * What a client asks a pod for through the API server's proxy (`pods/proxy`, RFC 9110 §7.8): the API server connects to
 * the pod itself and hands on bytes, where a port-forward takes them through the kubelet and the runtime as well.
 * Calls and tunnels as HTTP/2; or many tunnels in a connection of our own (`mux/opening.ts`).
 */
export const http2Upgrade = { path: '/nearfield/http2', protocol: 'nearfield-http2' } as const;
export const muxUpgrade = { path: '/nearfield/connections', protocol: 'nearfield-connections' } as const;

const switchingTo = (protocol: string): string =>
  `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`;
const maxHeadBytes = 8 * 1024;
const letterG = 0x47;
const letterN = 0x4e;

export interface EntranceDeps {
  readonly clock: Clock;
  readonly guests: Guests;
  /** For whoever connects to say what they speak. */
  readonly firstWordMs: number;
  /** The bytes of HTTP/2 begin here. */
  readonly onHttp2: (socket: Socket, caller: Caller) => void;
  /** Our own preface begins here. `isGreeted`: ours has left. */
  readonly onMux: (socket: Socket, caller: Caller, isGreeted: boolean) => void;
}

export interface Entrance {
  readonly server: Server;
  /** Ends the connections that have not begun with HTTP/2 yet. */
  endArriving(): void;
}

interface Arriving {
  readonly caller: Caller;
  readonly leave: Leave;
}

/**
 * The listening side of a server of HTTP/2. Most callers begin with it at once (RFC 9113 §3.4: “PRI”), or with a preface of our
 * own (“NEARFIELD”); those that the API server's proxy brings begin with a request of HTTP/1.1, which is answered by
 * Node's own server.
 */
export function createEntrance({ clock, guests, firstWordMs, onHttp2, onMux }: EntranceDeps): Entrance {
  const arriving = new Map<Socket, Arriving>();
  const upgrades = createUpgrades({ maxHeaderSize: maxHeadBytes }, (request, response) => {
    guests.note('a request that is none of ours', callerAt(request.socket));
    response.writeHead(404, { connection: 'close' }).end();
  });
  upgrades.on('clientError', (_error, socket) => socket.destroy());
  upgrades.on('upgrade', ({ socket, url, headers }: IncomingMessage, _duplex, head: Buffer) => {
    const arrived = arriving.get(socket);
    const upgrade = [http2Upgrade, muxUpgrade].find(
      ({ path, protocol }) => url === path && headers.upgrade === protocol,
    );
    if (!arrived || !upgrade) {
      guests.note('a request that is none of ours', callerAt(socket));
      socket.destroy();
      return;
    }
    arrived.leave();
    // Whose address it is says nothing of who speaks: nobody is an agent here.
    const caller: Caller = { address: '', broughtBy: arrived.caller.address };
    if (!entered(socket, caller, guests)) {
      return;
    }
    arriving.delete(socket);
    socket.write(switchingTo(upgrade.protocol));
    if (head.length > 0) {
      socket.unshift(head);
    }
    if (upgrade === http2Upgrade) {
      onHttp2(socket, caller);
    } else {
      // Who is between may agree to an upgrade that it does not carry: the other end waits for a word.
      socket.write(muxPreface);
      onMux(socket, caller, true);
    }
  });
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => undefined);
    const caller = callerAt(socket);
    const leave = entered(socket, caller, guests);
    if (!leave) {
      return;
    }
    arriving.set(socket, { caller, leave });
    const limit = clock.after(firstWordMs, () => {
      if (arriving.has(socket)) {
        guests.note('a connection that says nothing', caller);
        socket.destroy();
      }
    });
    socket.once('close', () => {
      arriving.delete(socket);
      void limit.dispose();
    });
    socket.once('readable', () => {
      const head = socket.read() as Buffer | null;
      if (!head) {
        // Who hangs up without a word: a probe.
        socket.destroy();
        return;
      }
      socket.unshift(head);
      if (head[0] === letterG) {
        upgrades.emit('connection', socket);
      } else {
        arriving.delete(socket);
        if (head[0] === letterN) {
          onMux(socket, caller, false);
        } else {
          onHttp2(socket, caller);
        }
      }
    });
  });
  return {
    server,
    endArriving: () => {
      for (const socket of arriving.keys()) {
        socket.destroy();
      }
    },
  };
}

/** Counted for as long as it is open; undefined: one too many, and closed. */
function entered(socket: Socket, caller: Caller, guests: Guests): Leave | undefined {
  const leave = guests.session(caller);
  if (leave) {
    socket.once('close', leave);
  } else {
    socket.destroy();
  }
  return leave;
}
