/**
 * Runs inside a network namespace of a test: the daemon's name server with a cluster that is a table, and the office's
 * resolver on the addresses that the machine's resolv.conf names. Says its port, then serves until it is killed.
 */
import { createSocket } from 'node:dgram';
import { Resolver } from 'node:dns/promises';
import { createServer } from 'node:net';
import { type Answer, decode, encode } from 'dns-packet';
import { parseSubnet, silentLogger, systemClock } from '../../../src/base/index.ts';
import { DnsServer } from '../../../src/daemon/dns/server.ts';
import { frame, MessageReader } from '../../../src/daemon/dns/stream.ts';
import { UpstreamResolver } from '../../../src/daemon/dns/upstream.ts';
import { FakeCluster } from '../../unit/daemon/dns/support.ts';

const [office4 = '', office6 = '', node = '', ports = ''] = process.argv.slice(2);
const a = (name: string, data: string): Answer => ({ type: 'A', name, ttl: 4, data });

const cluster = new FakeCluster()
  .add('service-a.', a('service-a', '10.96.0.1'))
  .add('service-a.service-a-ns.', a('service-a.service-a-ns', '10.96.0.1'))
  .add('service-a.service-a-ns.svc.cluster.local.', a('service-a.service-a-ns.svc.cluster.local', '10.96.0.1'))
  .add('both.svc.', a('both.svc', '10.96.0.2'), { type: 'AAAA', name: 'both.svc', ttl: 4, data: 'fd00:96::2' })
  .add('many.svc.', ...Array.from({ length: 90 }, (_, index) => a('many.svc', `10.96.1.${index}`)))
  .add('_http._tcp.service-a.svc.', {
    type: 'SRV',
    name: '_http._tcp.service-a.svc',
    ttl: 4,
    data: { priority: 0, weight: 100, port: 8080, target: 'service-a.svc' },
  })
  .add('1.0.96.10.in-addr.arpa.', {
    type: 'PTR',
    name: '1.0.96.10.in-addr.arpa',
    ttl: 4,
    data: 'service-a.service-a-ns.svc.cluster.local',
  });

// A cluster on this very machine: what its name server does not know it asks the machine's resolver, from the node.
const own = new Resolver({ timeout: 10_000, tries: 1 });
own.setServers([office4]);
own.setLocalAddress(node);
cluster.gate = async (name) => {
  if (!cluster.zone.has(name)) {
    await own.resolve4(name.slice(0, -1)).catch(() => undefined);
  }
};

const office = new Map([
  ['intranet.office.example', '172.16.0.9'],
  ['printer', '172.16.0.5'],
]);
function fromOffice(message: Buffer): Buffer {
  const { id = 0, questions = [] } = decode(message);
  const name = questions[0]?.name ?? '';
  const address = office.get(name);
  const answers = address && questions[0]?.type === 'A' ? [{ ...a(name, address), ttl: 77 }] : [];
  return encode({ type: 'response', id, flags: 0x180 | (address ? 0 : 3), questions, answers });
}
for (const address of [office4, office6]) {
  const udp = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  udp.on('message', (message, from) => udp.send(fromOffice(message), from.port, from.address));
  udp.bind(53, address);
  createServer((socket) => {
    const reader = new MessageReader();
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      reader.push(chunk);
      for (let message = reader.read(); message; message = reader.read()) {
        socket.write(frame(fromOffice(message)));
      }
    });
  }).listen(53, address);
}

const upstream = new UpstreamResolver({
  addresses: [office4, office6],
  clock: systemClock,
  log: silentLogger,
  sourcePorts: ports.split(',').map(Number),
});
const server = new DnsServer({ clock: systemClock, log: silentLogger, upstream });
const mappings = [
  { name: 'db', aliasFor: 'both.svc' },
  { name: 'site', aliasFor: 'intranet.office.example' },
];
server.configure([
  cluster.client(
    { mappings },
    ['10.96.0.0/16'].map(parseSubnet).filter((each) => each !== undefined),
  ),
]);
console.log(await server.listen({ ipv6: true }));
