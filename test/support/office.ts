import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { coreDnsBinary } from '../cluster/cache.ts';
import { waitFor } from '../cluster/shell.ts';
import type { Machine } from './machine.ts';

/**
 * A resolver that the machine had before, at an address of its own: names and their addresses, and NXDOMAIN for all
 * others. Resolves when it answers.
 */
export async function startOffice(
  machine: Machine,
  address: string,
  names: Readonly<Record<string, string>>,
  port = 53,
): Promise<void> {
  const corefile = join(machine.folder, `Corefile-${address.replaceAll(':', '-')}-${port}`);
  const hosts = Object.entries(names).map(([name, each]) => `    ${each} ${name}`);
  await writeFile(corefile, [`.:${port} {`, `  bind ${address}`, '  hosts {', ...hosts, '  }', '}', ''].join('\n'));
  if (!address.startsWith('127.')) {
    const isV6 = address.includes(':');
    await machine.run([
      'ip',
      'address',
      'add',
      `${address}/${isV6 ? 128 : 32}`,
      'dev',
      'lo',
      ...(isV6 ? ['nodad'] : []),
    ]);
  }
  machine.start([await coreDnsBinary(), '-conf', corefile]);
  const [first = ''] = Object.keys(names);
  await waitFor('the office’s resolver', 10_000, async () =>
    (await machine.run(['dig', '+short', '+time=1', '+tries=1', `@${address}`, '-p', String(port), first])).trim() ===
    names[first]
      ? true
      : undefined,
  );
}
