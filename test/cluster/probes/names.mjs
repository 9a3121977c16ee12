// Looks names up by Node: `lookup` (the C library) or `resolve` (c-ares). Prints `name address,address` or `name -`.
import { lookup, resolve4 } from 'node:dns/promises';

const [how, ...names] = process.argv.slice(2);
for (const name of names) {
  const found =
    how === 'lookup'
      ? await lookup(name, { all: true }).then(
          (all) => all.map(({ address }) => address),
          () => [],
        )
      : await resolve4(name).catch(() => []);
  console.log(name, found.join(',') || '-');
}
