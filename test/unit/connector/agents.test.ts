import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { afterEach, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { emptyPlan } from '../../../src/agent/port/diversion.ts';
import { silentLogger, systemClock } from '../../../src/base/index.ts';
import { Inbound } from '../../../src/connector/inbound/inbound.ts';
import { AgentSessions } from '../../../src/connector/session/agents.ts';
import type { Kube } from '../../../src/kube/index.ts';
import { wire } from '../../../src/protocol/index.ts';
import { waitFor } from '../../cluster/shell.ts';
import {
  attachment,
  call,
  listen,
  openPort,
  type Pod,
  type PodOptions,
  type Port,
  readAll,
  readUntil,
  startPod,
} from '../agent/pod.ts';

// The connector's way to an agent's connections, with a real agent's insides at its end.
const limit = { timeout: 20_000 };
let pod: Pod;
let port: Port;
let agents: AgentSessions;
let inbound: Inbound;
let localPort: number;
let forwards: Socket[];
/** Ports that the agent wanted to be dialled. */
let asked: number[];

const agentOf = (name: string): wire.AgentPodInfo =>
  create(wire.AgentPodInfoSchema, {
    podName: name,
    namespace: 'shop',
    podIp: Uint8Array.of(10, 0, 0, 1),
    apiPort: pod.apiPort,
  });

async function start(options: PodOptions): Promise<void> {
  pod = await startPod(options);
  forwards = [];
  asked = [];
  const programs = ['app', 'laptop'].map((name) =>
    createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => undefined);
      socket.write(`${name} `);
      socket.pipe(socket);
    }),
  );
  const [app, laptop] = programs;
  assert.ok(app && laptop);
  port = await openPort(pod, app);
  localPort = await listen(laptop);
  pod.scope.defer(() => void laptop.close());
  inbound = new Inbound({
    clock: systemClock,
    log: silentLogger,
    isAllowed: (_, each) => {
      asked.push(each);
      return each === localPort;
    },
  });
  const kube: Pick<Kube, 'connectToPod'> = {
    connectToPod: async () => {
      const socket = connect(pod.apiPort, '127.0.0.1');
      forwards.push(socket);
      await once(socket, 'connect');
      return socket;
    },
  };
  agents = pod.scope.own(new AgentSessions({ kube, clock: systemClock, log: silentLogger, inbound }));
}
afterEach(() => pod.scope.dispose());

/** With an agent of ours, and with one that has nothing beside the contract: that one is reached a second time, in its own words. */
function each(name: string, work: (connections: number) => Promise<void>): void {
  for (const isStock of [false, true]) {
    test(`${name} (${isStock ? 'a stock agent' : 'ours'})`, limit, async () => {
      await start({ isStock });
      await work(isStock ? 2 : 1);
    });
  }
}

const ask = (): Promise<string> => {
  const socket = call(port.port);
  socket.end('hello');
  return readAll(socket);
};

async function intercepted(target = localPort): Promise<void> {
  port.forwarder.apply({ ...emptyPlan, whole: attachment('ann', target) });
  agents.follow([agentOf('web-0')], 'ann');
  if (target === localPort) {
    await waitFor('the laptop', 10_000, async () => ((await ask()) === 'laptop hello' ? true : undefined));
  }
}

each(
  'a caller of an intercepted pod is answered by the developer’s program, a hundred at a time as well',
  async (connections) => {
    await intercepted();
    const answers = await Promise.all(Array.from({ length: 100 }, ask));
    assert.deepEqual([...new Set(answers)], ['laptop hello']);
    assert.equal(forwards.length, connections, 'all of them come by one connection');
    await waitFor('their end', 5_000, () => (inbound.connections === 0 ? true : undefined));
  },
);

each('what is not attached is refused, and the application answers', async () => {
  await intercepted(9);
  await waitFor('a dial', 10_000, async () => {
    assert.equal(await ask(), 'app hello');
    return asked.includes(9) ? true : undefined;
  });
});

each('who is left finishes with the developer, and who comes then is the application’s', async (connections) => {
  await intercepted();
  const early = call(port.port, 'one ');
  await readUntil(early, (text) => text === 'laptop one ');
  agents.follow([], 'ann');
  await waitFor('the application', 5_000, async () => ((await ask()) === 'app hello' ? true : undefined));
  early.end('two');
  assert.equal(await readUntil(early, (text) => text === 'two'), 'two');
  await waitFor('the end of the connection', 5_000, () => (forwards[connections - 1]?.destroyed ? true : undefined));
});

each('a connection to the agent that breaks is made anew', async (connections) => {
  await intercepted();
  forwards[connections - 1]?.destroy();
  assert.equal(await ask(), 'app hello');
  await waitFor('the laptop', 10_000, async () => ((await ask()) === 'laptop hello' ? true : undefined));
  assert.equal(forwards.length, 2 * connections);
});
