import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { type Disposable, formatSubnet, maskIp, type Subnet } from '../../../src/base/index.ts';
import type { LinkPlan, NetworkBackend } from '../../../src/daemon/os/contract.ts';
import { settled } from '../manager/hand-clock.ts';
import { FakeMachine, toSubnet } from './machine.ts';

export interface PlatformSetup {
  readonly name: string;
  readonly device: string;
  /** A network on this machine, as after the device was opened. */
  create(machine: FakeMachine): NetworkBackend & Disposable;
  /** Lets time pass until the backend has looked at the machine again; undefined where it is told. */
  readonly look?: (() => void) | undefined;
  /** What it does not do yet, by the test's name. */
  readonly todo?: readonly string[];
}

interface Parts {
  readonly subnets: readonly string[];
  readonly neverProxy?: readonly string[];
}

const first: Parts = { subnets: ['10.100.0.0/16', '192.168.189.0/24', 'fd00:100::/64'] };
const other: Parts = { subnets: ['10.96.0.0/12', '192.168.189.0/24'] };

/** What every system's network does, told on a machine that prints itself. */
export function describeNetwork(setup: PlatformSetup): void {
  const { name, device } = setup;
  const check = (title: string, run: () => Promise<void>): void => {
    test(`${name}: ${title}`, { todo: setup.todo?.includes(title) ? 'not yet' : false }, run);
  };
  const make = () => {
    const machine = new FakeMachine(device);
    const network = setup.create(machine);
    return { machine, network, apply: (parts: Parts) => network.apply(toPlan(device, parts)) };
  };
  const stateAfter = async (...all: readonly Parts[]): Promise<string> => {
    const { machine, network, apply } = make();
    for (const parts of all) {
      await apply(parts);
    }
    network.dispose();
    return machine.print();
  };

  check('a plan makes the machine look like this', async () => {
    assertGolden(`network-${name}.txt`, await stateAfter(first));
  });

  check('exceptions and an allowed conflict make the machine look like this', async () => {
    const parts = { subnets: ['10.100.0.0/16', '172.30.0.0/16'], neverProxy: ['10.100.9.0/24', '172.30.0.1/32'] };
    assertGolden(`network-${name}-exceptions.txt`, await stateAfter(parts));
  });

  check('the same plan again changes nothing', async () => {
    const { machine, network, apply } = make();
    await apply(first);
    const state = machine.print();
    await apply(first);
    assert.equal(machine.print(), state);
    network.dispose();
  });

  check('another plan leaves nothing of the one before', async () => {
    assert.equal(await stateAfter(first, other), await stateAfter(other));
  });

  check('an exception that is gone leaves nothing', async () => {
    assert.equal(await stateAfter({ ...first, neverProxy: ['10.100.9.0/24'] }, first), await stateAfter(first));
  });

  check('when it is cleared and the device is closed, the machine is as before', async () => {
    const { machine, network, apply } = make();
    const before = new FakeMachine(device);
    before.removeLink(device);
    await apply({ ...first, neverProxy: ['10.100.9.0/24'] });
    await network.clear();
    network.dispose();
    machine.removeLink(device);
    assert.equal(machine.print(), before.print());
  });

  check('a route that was in the way of an allowed conflict is back at the end', async () => {
    const { machine, network, apply } = make();
    const before = new FakeMachine(device);
    before.removeLink(device);
    await apply({ subnets: ['172.30.0.0/16'] });
    await network.clear();
    network.dispose();
    machine.removeLink(device);
    assert.equal(machine.print(), before.print());
  });

  check('it comes again after it was cleared', async () => {
    const { machine, network, apply } = make();
    await apply(other);
    await network.clear();
    machine.removeLink(device);
    machine.addLink(device, []);
    await apply(first);
    assert.equal(machine.print(), await stateAfter(first));
    network.dispose();
  });

  check('every route of the machine is known, with its device and gateway', async () => {
    const { network, apply } = make();
    await apply(first);
    const routes = (await network.routes()).map((each) => [formatSubnet(each.subnet), each.device, each.gateway]);
    for (const expected of [
      ['172.30.0.0/16', 'tun9', '10.8.0.1'],
      ['192.168.1.0/24', 'eth0', undefined],
      ['10.100.0.0/16', device, undefined],
      ['fd00:100::/64', device, undefined],
    ]) {
      assert.ok(
        routes.some((route) => JSON.stringify(route) === JSON.stringify(expected)),
        `${expected[0]} in ${JSON.stringify(routes)}`,
      );
    }
    network.dispose();
  });

  check('a route that somebody took away comes back with the next apply', async () => {
    const { machine, network, apply } = make();
    await apply(first);
    const state = machine.print();
    machine.removeRoute('10.100.0.0/16', device);
    await apply(first);
    assert.equal(machine.print(), state);
    network.dispose();
  });

  const { look } = setup;
  if (look) {
    const changesSeen = async (change: (machine: FakeMachine) => void): Promise<number> => {
      const { machine, network, apply } = make();
      let seen = 0;
      const listening = network.onNetworkChanged(() => {
        seen++;
      });
      await apply(first);
      change(machine);
      for (let round = 0; round < 3; round++) {
        look();
        for (let step = 0; step < 20; step++) {
          await settled();
        }
      }
      void listening.dispose();
      network.dispose();
      return seen;
    };

    check('our own changes are not reported', async () => {
      assert.equal(await changesSeen(() => undefined), 0);
    });

    check('a route of somebody else is reported once', async () => {
      const add = (machine: FakeMachine): void => machine.addRoute({ subnet: '10.9.0.0/16', device: 'tun9' });
      assert.equal(await changesSeen(add), 1);
    });

    check('a route of ours that somebody took away is reported once', async () => {
      assert.equal(await changesSeen((machine) => machine.removeRoute('10.100.0.0/16', device)), 1);
    });
  }
}

export function toPlan(device: string, { subnets, neverProxy = [] }: Parts): LinkPlan {
  const parsed = subnets.map(toSubnet);
  const own = ([4, 16] as const)
    .map((size) => parsed.find(({ address }) => address.length === size))
    .filter((subnet): subnet is Subnet => subnet !== undefined)
    .map(({ address, prefixLength }) => maskIp(address, prefixLength));
  return { device, addresses: own, subnets: parsed, neverProxy: neverProxy.map(toSubnet) };
}

/** Compares with the file below `test/golden`; writes it when UPDATE_GOLDEN is set. */
export function assertGolden(name: string, text: string): void {
  const path = new URL(`../../golden/${name}`, import.meta.url);
  if (process.env['UPDATE_GOLDEN']) {
    writeFileSync(path, `${text}\n`);
  }
  assert.equal(`${text}\n`, readFileSync(path, 'utf8'));
}
