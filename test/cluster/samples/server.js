// The sample workload: answers over HTTP with who it is, echoes UDP, and reads the environment of its container.
const crypto = require('node:crypto');
const dgram = require('node:dgram');
const http = require('node:http');
const os = require('node:os');
const webSocket = require('./web-socket.cjs');

const port = Number(process.env.PORT ?? 8080);
const block = crypto.createHash('sha512').update('nearfield').digest().toString('hex').repeat(512);

const server = http.createServer((request, response) => {
  const [, what, count] = request.url.split('/');
  if (what === 'bytes') {
    // So many blocks of 64 KiB, then their digest as a trailer.
    const hash = crypto.createHash('sha256');
    response.writeHead(200, { trailer: 'x-sha256' });
    let left = Number(count);
    const pump = () => {
      while (left-- > 0) {
        hash.update(block);
        if (!response.write(block)) {
          response.once('drain', pump);
          return;
        }
      }
      response.addTrailers({ 'x-sha256': hash.digest('hex') });
      response.end();
    };
    pump();
  } else if (what === 'digest') {
    const hash = crypto.createHash('sha256');
    request.on('data', (chunk) => hash.update(chunk));
    request.on('end', () => response.end(hash.digest('hex')));
  } else {
    response.end(`pod ${os.hostname()} ${request.url}\n`);
  }
});
server.on('upgrade', (request, socket) => webSocket.serve(request, socket, (text) => `pod ${os.hostname()} ${text}`));
server.listen(port);

const udp = dgram.createSocket('udp4');
udp.on('message', (message, from) => udp.send(message, from.port, from.address));
udp.bind(Number(process.env.UDP_PORT ?? 8081));

// A well-behaved workload serves on until every node knows that it is ending.
process.on('SIGTERM', () => {
  setTimeout(() => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
    setTimeout(() => process.exit(0), 500);
  }, 2000);
});
