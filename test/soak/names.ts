/** Asks a name server over UDP, some questions at a time, and prints how many were answered. Port, count, seed. */
import { createSocket } from 'node:dgram';
import { encode } from 'dns-packet';

const parallel = 16;
const limitMs = 10_000;
const [port = 0, count = 0, seed = 0] = process.argv.slice(2).map(Number);
const socket = createSocket('udp4');
let sent = 0;
let answered = 0;
const end = (): void => {
  process.stdout.write(`${answered}\n`);
  socket.close();
};
const timer = setTimeout(end, limitMs);
const ask = (): void => {
  // Every third is new, the others were asked before.
  const name = `service-${sent % 3 === 0 ? `${seed}-${sent}` : sent % 50}.default.svc.cluster.local`;
  sent++;
  const type = sent % 2 === 0 ? 'A' : 'AAAA';
  socket.send(
    encode({ type: 'query', id: sent & 0xffff, flags: 0x100, questions: [{ type, name }] }),
    port,
    '127.0.0.1',
  );
};
socket.on('message', () => {
  answered++;
  if (answered === count) {
    clearTimeout(timer);
    end();
  } else if (sent < count) {
    ask();
  }
});
for (let i = 0; i < Math.min(parallel, count); i++) {
  ask();
}
