import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { generate } from '../../charts/generate.ts';
import { optionNames } from '../../charts/values.ts';
import { installOptionsSchema, readInstallOptions } from '../../src/connector/install/options.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

test('manifests and chart are what npm run manifests writes, and nothing else', () => {
  const files = generate();
  for (const [path, text] of files) {
    assert.equal(read(path), text, `${path} is stale: run npm run manifests`);
  }
  const present = ['charts/nearfield', 'docs/manifests'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(root.length)),
  );
  assert.deepEqual(present.sort(), [...files.keys()].sort());
});

test('the chart has a value for each option, and its defaults are those of the options', () => {
  assert.deepEqual([...optionNames].sort(), Object.keys(installOptionsSchema.entries).sort());
  const values: unknown = parse(read('charts/nearfield/values.yaml'));
  assert.deepEqual(readInstallOptions({ options: values }), readInstallOptions({}));
});

test('each right that is given, and why, is in docs/install.md', async () => {
  const rbac = await import('../../src/connector/install/rbac.ts');
  const text = read('docs/install.md');
  const rules = [
    ...[rbac.workRules, rbac.nodeRules, rbac.tokenRules, rbac.connectRules, rbac.developRules, rbac.namespaceRules],
    ...[rbac.clusterRules('ambassador'), rbac.ownRules('ambassador')],
  ].flat();
  const missing = rules.filter(({ resources, verbs, why }) => {
    const row = `| ${resources.join(', ')} | ${verbs.join(', ')} |`;
    return !text.split('\n').some((line) => line.replaceAll(/ +/g, ' ').startsWith(row) && line.includes(why));
  });
  assert.deepEqual(missing, []);
});
