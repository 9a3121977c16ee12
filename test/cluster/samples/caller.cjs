// Calls whatever it is told to, one JSON value a line, and answers with what was answered: from inside the cluster, over
// one forwarded connection, without starting a program for every call.
const dgram = require('node:dgram');
const http = require('node:http');
const http2 = require('node:http2');
const net = require('node:net');
const { createInterface } = require('node:readline');

const limitMs = 4_000;

const ways = {
  http: ({ host, port, path, headers }, done) => {
    const request = http.get({ host, port, path, headers, agent: false, timeout: limitMs }, (response) => {
      let text = '';
      response
        .setEncoding('utf8')
        .on('data', (chunk) => (text += chunk))
        .on('end', () => done(text));
    });
    request.on('error', (error) => done(`error ${error.code}`));
    request.on('timeout', () => request.destroy(Object.assign(new Error('late'), { code: 'late' })));
  },
  rpc: ({ host, port, path, headers }, done) => {
    const session = http2.connect(`http://${host}:${port}`);
    const end = (text) => {
      session.destroy();
      done(text);
    };
    session.on('error', (error) => end(`error ${error.code}`));
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...headers,
    });
    const parts = [];
    let status = 'no status';
    stream.on('trailers', (trailers) => (status = trailers['grpc-status']));
    stream.on('data', (chunk) => parts.push(chunk));
    stream.on('error', (error) => end(`error ${error.code}`));
    stream.on('end', () => end(status === '0' ? String(Buffer.concat(parts).subarray(5)) : `error ${status}`));
    stream.end(Buffer.from([0, 0, 0, 0, 0]));
  },
  socket: ({ host, port, path, headers }, done) => {
    const socket = new WebSocket(`ws://${host}:${port}${path}`, { headers });
    socket.onopen = () => socket.send(path);
    socket.onerror = () => done('error socket');
    socket.onmessage = ({ data }) => {
      socket.close();
      done(data);
    };
  },
  udp: ({ host, port, path }, done) => {
    const socket = dgram.createSocket('udp4');
    const end = (text) => {
      socket.close();
      done(text);
    };
    const timer = setTimeout(() => end('error late'), limitMs / 2);
    socket.on('error', (error) => done(`error ${error.code}`));
    socket.on('message', (message) => {
      clearTimeout(timer);
      // A pod says what was said to it.
      end(String(message) === path ? `pod ${path}` : String(message));
    });
    socket.send(path, port, host);
  },
};

function serve(line, socket) {
  const { id, way, ...what } = JSON.parse(line);
  let isDone = false;
  const done = (text) => {
    if (!isDone) {
      isDone = true;
      socket.write(`${JSON.stringify({ id, text: text.trim() })}\n`);
    }
  };
  setTimeout(() => done('error late'), limitMs + 1_000).unref();
  try {
    ways[way](what, done);
  } catch (error) {
    done(`error ${error}`);
  }
}

net
  .createServer((socket) => {
    socket.on('error', () => socket.destroy());
    createInterface({ input: socket }).on('line', (line) => serve(line, socket));
  })
  .listen(7000);
