import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import type { ManagerSession } from '../../../src/connector/session/session.ts';
import type { Kube } from '../../../src/kube/index.ts';
import { ScriptedManager, sealedAddress } from '../../support/scripted-manager.ts';

// The shorter way to the traffic-manager crosses the cluster's network in clear: no token goes there.

const limit = { timeout: 20_000 };
let manager: ScriptedManager;
let session: ManagerSession | undefined;

beforeEach(async () => {
  manager = await ScriptedManager.open();
});
afterEach(async () => {
  await session?.close();
  await manager.close();
});

async function connect(terms: { authSupported: boolean; authRequired: boolean }): Promise<void> {
  manager.version = { ...manager.version, ...terms };
  const bearerToken = async (): Promise<string> => 'secret';
  session = await manager.connect({}, { bearerToken } as Partial<Kube>);
}

test('a manager that demands a token gets it by a port-forward, and by no other way', limit, async () => {
  await connect({ authSupported: true, authRequired: true });
  assert.deepEqual([...manager.shownFrom], [sealedAddress]);
  assert.equal(session?.way, 'sealed');
});

test('where nothing is shown, the shorter way is taken', limit, async () => {
  await connect({ authSupported: true, authRequired: false });
  assert.deepEqual([...manager.shownFrom], []);
  assert.deepEqual(manager.sealed, []);
  assert.equal(session?.way, 'proxy');
});
