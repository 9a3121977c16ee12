import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allEnvironments } from '../../../src/agent/environment.ts';
import { parseEnviron } from '../../../src/agent/processes.ts';
import { sidecarConfig } from './sidecar.ts';

const own = {
  _TEL_APP_A_GREETING: 'hello',
  _TEL_APP_A_MODE: 'fast',
  _TEL_APP_B_GREETING: 'hello',
  _TEL_APP_B_SIZE: '3',
};
const config = sidecarConfig();
const two = {
  ...config,
  containers: [...config.containers, { name: 'helper', envPrefix: 'B_', intercepts: [] }],
};

test('what the entry point has set is there, and what belongs to the image is not', async () => {
  const process = { GREETING: 'hello', MODE: 'fast', FROM_ENTRY_POINT: 'yes', PATH: '/app/bin', HOME: '/root' };
  const { server, helper } = await allEnvironments(two, own, async () => [{ PATH: '/pause' }, process]);
  assert.deepEqual(server, {
    GREETING: 'hello',
    MODE: 'fast',
    FROM_ENTRY_POINT: 'yes',
    TELEPRESENCE_CONTAINER: 'server',
  });
  assert.deepEqual(helper, { GREETING: 'hello', SIZE: '3', TELEPRESENCE_CONTAINER: 'helper' });
});

test('a process that could be of either container is of none', async () => {
  const process = { GREETING: 'hello', MODE: 'fast', SIZE: '3', SECRET: 'of one of them' };
  for (const each of Object.values(await allEnvironments(two, own, async () => [process]))) {
    assert.equal('SECRET' in each, false);
  }
});

test('an environment is read as the kernel writes it', () => {
  assert.deepEqual(parseEnviron('A=1\0B=x=y\0C=two\nlines\0=odd\0bare\0'), { A: '1', B: 'x=y', C: 'two\nlines' });
});
