// The sample workload: answers over HTTP with who it is, echoes UDP, and reads the environment of its container.
const dgram = require('node:dgram');
const http = require('node:http');
const os = require('node:os');

const port = Number(process.env.PORT ?? 8080);
const server = http.createServer((request, response) => {
  response.end(`pod ${os.hostname()} ${request.url}\n`);
});
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
