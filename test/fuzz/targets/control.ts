import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger, systemClock } from '../../../src/base/index.ts';
import { createControlServer } from '../../../src/daemon/control/server.ts';
import type { DesiredNetwork } from '../../../src/protocol/index.ts';
import { fakeNetwork } from '../../support/fake-connector.ts';
import type { Random } from '../random.ts';
import type { Target } from '../target.ts';

const limitMs = 5_000;

function message(method: string, params: unknown, id: unknown = 1): Uint8Array {
  const body = JSON.stringify({ jsonrpc: '2.0', id, method, params });
  return Buffer.from(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
}

/** JSON of any kind, for parameters. */
function anything(random: Random, depth = 0): unknown {
  const kinds: (() => unknown)[] = [
    () => random.below(70_000) - 1,
    () => '10.0.0.0/8',
    () => '0.0.0.0/0',
    () => 'x'.repeat(random.below(400)),
    () => null,
    () => true,
    () => fakeNetwork(),
    () => Array.from({ length: random.below(5) }, () => (depth > 4 ? 0 : anything(random, depth + 1))),
    () => ({
      [random.pick(['network', 'subnets', '__proto__', 'dns', 'name', 'pid'])]:
        depth > 4 ? 0 : anything(random, depth + 1),
    }),
  ];
  return random.pick(kinds)();
}

/** The control endpoint over a real socket: nothing hostile is applied, and the next client is still served. */
export async function openControlTarget(): Promise<Target> {
  const folder = await mkdtemp(join(tmpdir(), 'nearfield-fuzz-'));
  const path = join(folder, 's');
  const clients = new Set<unknown>();
  const applied: DesiredNetwork[] = [];
  const server = createControlServer({
    uid: 0,
    clock: systemClock,
    log: silentLogger,
    handlers: {
      attached: (client) => void clients.add(client),
      async apply(_client, network) {
        applied.push(network);
        return { device: 'nf0', subnets: [], dnsAddress: '127.0.0.1:1', translated: [] };
      },
      listen: () => undefined,
      status: () => {
        throw new TypeError('not of interest');
      },
      async detached(client) {
        clients.delete(client);
      },
      quit: async () => undefined,
    },
  });
  server.listen(path);
  await once(server, 'listening');
  const timers = (): number => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  const before = timers();
  const attach = message('attach', { name: 'fuzz', pid: 1 });
  const talk = async (bytes: Uint8Array): Promise<string> => {
    const socket = connect(path);
    let said = '';
    socket.on('data', (chunk) => {
      said += chunk.toString('latin1');
    });
    socket.on('error', () => undefined);
    const closed = once(socket, 'close', { signal: AbortSignal.timeout(limitMs) });
    socket.end(bytes);
    await closed;
    return said;
  };
  return {
    seeds: [
      attach,
      Buffer.concat([attach, message('apply', { network: fakeNetwork() }, 2)]),
      Buffer.concat([attach, message('listen', { port4: 7_000 }, 2), message('detach', {}, 3)]),
      message('status', {}),
      Buffer.from('Content-Length: 99999999999\r\n\r\n{}'),
      Buffer.from('Content-Length: 2\r\nContent-Type: x; charset=utf-16\r\n\r\n[]'),
    ],
    async run(input, random) {
      const method = random.pick(['attach', 'apply', 'listen', 'status', 'detach', 'quit', '$/cancelRequest', 'x']);
      const bytes = random.once(3)
        ? Buffer.concat([attach, message(method, anything(random), anything(random))])
        : input;
      await talk(bytes);
      for (const { subnets } of applied.splice(0)) {
        assert.ok(subnets.length <= 2_000);
        assert.ok(subnets.every((each) => typeof each === 'string' && each.length <= 49));
      }
    },
    async settle() {
      const socket = connect(path);
      socket.write(attach);
      const [chunk] = (await once(socket, 'data', { signal: AbortSignal.timeout(limitMs) })) as [Buffer];
      socket.end();
      await once(socket, 'close', { signal: AbortSignal.timeout(limitMs) });
      assert.match(chunk.toString(), /"daemonVersion"/, 'the next client is not served');
      assert.equal(clients.size, 0, 'clients remain that are gone');
      assert.ok(timers() <= before + 4, `${timers() - before} timers remain of connections that are gone`);
    },
    async close() {
      server.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
