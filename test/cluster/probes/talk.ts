/** Real clients in Node, bundled for the workstation: a WebSocket, and a gRPC call to the traffic-manager. */
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { WebSocket } from 'ws';
import { wire } from '../../../src/protocol/index.ts';

const [what = '', url = ''] = process.argv.slice(2);
const limit = setTimeout(() => {
  console.log('timed out');
  process.exit(1);
}, 20_000);

if (what === 'grpc') {
  const transport = createGrpcTransport({ baseUrl: url });
  const version = await createClient(wire.Manager, transport).version({});
  console.log(JSON.stringify({ version: version.version }));
} else {
  const socket = new WebSocket(url);
  const big = Buffer.alloc(3_000_000, 'x');
  let echoes = 0;
  socket.on('open', () => {
    for (let i = 0; i < 500; i++) {
      socket.send(`message ${i}`);
    }
    socket.send(big);
  });
  socket.on('message', (data: Buffer) => {
    const isRight = echoes < 500 ? data.toString() === `message ${echoes}` : data.equals(big);
    if (!isRight || ++echoes === 501) {
      console.log(JSON.stringify({ echoes }));
      socket.close();
    }
  });
  await new Promise((resolve) => socket.on('close', resolve));
}
clearTimeout(limit);
process.exit(0);
