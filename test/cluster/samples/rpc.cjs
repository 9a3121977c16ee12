// HTTP/2 without TLS: gRPC where the content type says so, else a plain answer. It answers the kubelet's gRPC probes.
const http2 = require('node:http2');
const os = require('node:os');

const framed = (bytes) => {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
};

exports.serve = (who) => {
  const server = http2.createServer();
  server.on('stream', (stream, headers) => {
    const path = headers[':path'];
    stream.on('error', () => stream.destroy());
    stream.resume();
    stream.on('end', () => {
      if (!String(headers['content-type']).startsWith('application/grpc')) {
        stream.respond({ ':status': 200 });
        stream.end(`${who(path)}\n`);
        return;
      }
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      // HealthCheckResponse { status: SERVING }, or the text itself.
      stream.end(framed(path === '/grpc.health.v1.Health/Check' ? Buffer.from([8, 1]) : Buffer.from(who(path))));
    });
  });
  return server;
};

if (require.main === module) {
  exports.serve((path) => `pod ${os.hostname()} ${path}`).listen(8080);
  process.on('SIGTERM', () => setTimeout(() => process.exit(0), 2000));
}
