/** A WebSocket echo on 8001, HTTP/2 in clear text on 8002, and over TLS on 8003. Runs in a pod, bundled. */
import { readFileSync } from 'node:fs';
import { createSecureServer, createServer } from 'node:http2';
import { WebSocketServer } from 'ws';

const sockets = new WebSocketServer({ port: 8001 });
sockets.on('connection', (socket) => {
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
});
const answer = (stream: { respond: (headers: object) => void; end: (text: string) => void }): void => {
  stream.respond({ ':status': 200 });
  stream.end('two');
};
createServer().on('stream', answer).listen(8002);
createSecureServer({ key: readFileSync('/script/key.pem'), cert: readFileSync('/script/cert.pem') })
  .on('stream', answer)
  .listen(8003);
