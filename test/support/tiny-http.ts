import type { Socket } from 'node:net';

const blankLine = '\r\n\r\n';

/** Answers one request with the word `here`, and closes. */
export function serveHttp(socket: Socket): void {
  let asked = '';
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk: Buffer) => {
    asked += chunk.toString('latin1');
    if (asked.endsWith(blankLine)) {
      socket.end(`HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close${blankLine}here`);
    }
  });
}
