import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setLogLevel } from '../../../src/connector/session/log-level.ts';
import { ScriptedManager } from '../../support/scripted-manager.ts';

test('the traffic-manager is asked for another log level, for so many minutes', { timeout: 20_000 }, async () => {
  const manager = await ScriptedManager.open();
  const session = await manager.connect();
  try {
    await setLogLevel(session, 'debug', 5);
    assert.deepEqual(manager.logLevels, ['debug for 300 s']);
  } finally {
    await session.close();
    await manager.close();
  }
});
