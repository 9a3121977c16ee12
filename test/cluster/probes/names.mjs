// Looks up by Node: `lookup` (the C library) or `resolve` (c-ares); `host:NAME`, `ptr:ADDRESS`, `srv:NAME`.
// Prints `question answer,answer milliseconds`; `?` for what the interface cannot ask.
import { lookup, lookupService, resolve4, resolveSrv, reverse } from 'node:dns/promises';

const ways = {
  lookup: {
    host: async (name) => (await lookup(name, { all: true })).map(({ address }) => address),
    ptr: async (address) => {
      const { hostname } = await lookupService(address, 80);
      return hostname === address ? [] : [hostname];
    },
    srv: async () => ['?'],
  },
  resolve: {
    host: resolve4,
    ptr: reverse,
    srv: async (name) => (await resolveSrv(name)).map((record) => `${record.name}:${record.port}`),
  },
};

const [how, ...questions] = process.argv.slice(2);
for (const question of questions) {
  const [kind, what] = question.split(':');
  const started = performance.now();
  const found = await ways[how][kind](what).catch(() => []);
  console.log(question, found.join(',') || '-', Math.round(performance.now() - started));
}
