// Asks a name server for four seconds and prints rates and latencies as JSON. Arguments: server, mode, name.
// Modes: `one` (one at a time), `many` (sixteen at a time), `new` (one at a time, a new pod's name each).
import { createSocket } from 'node:dgram';

const [server, mode, name] = process.argv.slice(2);
const milliseconds = 4_000;
const parallel = mode === 'many' ? 16 : 1;
const socket = createSocket('udp4');
const started = new Map();
const took = [];
let id = 0;
let answered = 0;

function question(text, id) {
  const labels = text.split('.').filter(Boolean);
  const body = Buffer.concat([
    ...labels.map((label) => Buffer.concat([Buffer.of(label.length), Buffer.from(label)])),
    Buffer.of(0, 0, 1, 0, 1),
  ]);
  const header = Buffer.from([id >>> 8, id & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  return Buffer.concat([header, body]);
}

const kept = question(name, 0);
const ask = () => {
  id = (id + 1) & 0xffff;
  const message =
    mode === 'new' ? question(`10-${process.pid & 255}-${id >>> 8}-${id & 255}.${name}`, id) : Buffer.from(kept);
  message.writeUInt16BE(id, 0);
  started.set(id, process.hrtime.bigint());
  socket.send(message);
};
socket.on('message', (message) => {
  const at = started.get(message.readUInt16BE(0));
  if (at !== undefined) {
    started.delete(message.readUInt16BE(0));
    took.push(Number(process.hrtime.bigint() - at) / 1e3);
    answered++;
    ask();
  }
});
socket.connect(53, server, () => {
  for (let i = 0; i < parallel; i++) {
    ask();
  }
  setTimeout(() => {
    took.sort((a, b) => a - b);
    const at = (q) => took[Math.floor((took.length - 1) * q)];
    console.log(JSON.stringify({ perSecond: answered / (milliseconds / 1e3), p50us: at(0.5), p99us: at(0.99) }));
    process.exit(0);
  }, milliseconds);
});
