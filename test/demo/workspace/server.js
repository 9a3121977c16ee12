// The program on the developer's machine: answers in the place of the pod.
const http = require('node:http');

const port = Number(process.env.PORT ?? 8080);

const server = http.createServer((request, response) => {
  const caller = request.headers['user-agent'] ?? 'somebody';
  const greeting = process.env.GREETING ?? 'hello from nowhere';
  response.end(`laptop ${request.url} for ${caller}: ${greeting}\n`);
});

server.listen(port, '127.0.0.1', () => console.log(`listening on ${port}`));
