import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { proxyLacks } from '../../../src/connector/proxy/lacks.ts';
import { withEnvironment, withProxy } from '../../../src/extension/debug/environment.ts';

test('the proxies’ variables win over the container’s, and the launch configuration’s over both', () => {
  const container = { HTTP_PROXY: 'http://proxy.office:3128', NO_PROXY: '.svc', PATH: '/app', MODE: 'test' };
  const proxy = { HTTP_PROXY: 'http://127.0.0.1:1', NO_PROXY: 'localhost', ALL_PROXY: 'socks5h://127.0.0.1:2' };
  const launch = { type: 'node', env: { ALL_PROXY: 'mine' } };
  assert.deepEqual(withEnvironment(launch, withProxy(container, proxy), []).env, {
    HTTP_PROXY: 'http://127.0.0.1:1',
    NO_PROXY: 'localhost',
    ALL_PROXY: 'mine',
    MODE: 'test',
  });
});

test('without proxies the container’s environment stays as it is', () => {
  const container = { HTTP_PROXY: 'http://proxy.office:3128' };
  assert.deepEqual(withProxy(container, {}), container);
});

test('a variable of the proxies can be left out like any other', () => {
  const proxy = { HTTP_PROXY: 'http://127.0.0.1:1', NODE_USE_ENV_PROXY: '1' };
  assert.deepEqual(withEnvironment({ type: 'go', env: {} }, withProxy({}, proxy), ['NODE_USE_ENV_PROXY']).env, {
    HTTP_PROXY: 'http://127.0.0.1:1',
  });
});

test('what is lacking without root is said in German too', () => {
  const german = JSON.parse(readFileSync('l10n/bundle.l10n.de.json', 'utf8')) as Record<string, string>;
  assert.ok(proxyLacks.length > 0);
  assert.deepEqual(
    proxyLacks.filter((sentence) => !german[sentence]),
    [],
  );
});
