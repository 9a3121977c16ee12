// The client of the transfer test: moves so many blocks of 64 KiB and prints whether the digests agree.
const crypto = require('node:crypto');
const http = require('node:http');

const [direction, base, count] = process.argv.slice(2);
const hash = crypto.createHash('sha256');
const print = (theirs) => console.log(JSON.stringify({ same: hash.digest('hex') === theirs }));

if (direction === 'down') {
  http.get(`${base}/bytes/${count}`, (response) => {
    response.on('data', (chunk) => hash.update(chunk));
    response.on('end', () => print(response.trailers['x-sha256']));
  });
} else {
  const request = http.request(`${base}/digest`, { method: 'POST' }, (response) => {
    let theirs = '';
    response.on('data', (chunk) => {
      theirs += chunk;
    });
    response.on('end', () => print(theirs));
  });
  const block = crypto.randomBytes(65_536);
  let left = Number(count);
  const pump = () => {
    while (left-- > 0) {
      hash.update(block);
      if (!request.write(block)) {
        request.once('drain', pump);
        return;
      }
    }
    request.end();
  };
  pump();
}
