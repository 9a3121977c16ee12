// The least of RFC 6455 that answers short texts: one frame in, one frame out.
const { createHash } = require('node:crypto');

const guid = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

exports.serve = (request, socket, answer) => {
  const accept = createHash('sha1')
    .update(request.headers['sec-websocket-key'] + guid)
    .digest('base64');
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  let bytes = Buffer.alloc(0);
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => {
    bytes = Buffer.concat([bytes, chunk]);
    const length = bytes[1] & 0x7f;
    if (bytes.length >= 6 + length) {
      const isText = (bytes[0] & 0x0f) === 1;
      const text = Buffer.from(bytes.subarray(6, 6 + length).map((byte, at) => byte ^ bytes[2 + (at % 4)]));
      bytes = bytes.subarray(6 + length);
      if (isText) {
        const said = Buffer.from(answer(String(text)));
        socket.write(Buffer.concat([Buffer.from([0x81, said.length]), said]));
      } else {
        socket.end();
      }
    }
  });
};
