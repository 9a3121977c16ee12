import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { commandId, settingId, viewId } from '../../src/extension/ids.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const rooms = readdirSync(join(root, 'src'));
const reasonPattern = new RegExp(`'((?:${rooms.join('|')})\\.[a-z][a-z0-9_-]*)'`, 'g');
const catalogues = rooms.map((room) => `src/${room}/errors.ts`).filter((path) => existsSync(join(root, path)));
const reasons = new Set(
  catalogues.flatMap((path) => [...read(path).matchAll(reasonPattern)].map((match) => match[1] ?? '')),
);

interface Manifest {
  readonly contributes: {
    readonly commands: readonly { readonly command: string; readonly title: string }[];
    readonly views: Readonly<Record<string, readonly { readonly id: string }[]>>;
    readonly configuration: { readonly properties: Readonly<Record<string, unknown>> };
  };
}
const manifest = JSON.parse(read('package.json')) as Manifest;

test('every error reason is documented, and every documented one exists', () => {
  const documented = new Set([...read('docs/errors.md').matchAll(/^\| `([^`]+)`/gm)].map((match) => match[1] ?? ''));
  const ours = [...documented].filter((reason) => !reason.startsWith('base.') && !reason.endsWith('…'));
  assert.deepEqual(
    [...reasons].filter((reason) => !documented.has(reason)),
    [],
  );
  assert.deepEqual(
    ours.filter((reason) => !reasons.has(reason)),
    [],
  );
});

test('every setting is documented', () => {
  const text = read('docs/settings.md');
  assert.deepEqual(
    Object.keys(manifest.contributes.configuration.properties).filter((name) => !text.includes(`\`${name}\``)),
    [],
  );
});

test('manifest and code name the same commands, views and settings', () => {
  const { commands, views, configuration } = manifest.contributes;
  assert.deepEqual(commands.map(({ command }) => command).sort(), Object.values(commandId).sort());
  assert.deepEqual(
    Object.values(views)
      .flat()
      .map(({ id }) => id)
      .sort(),
    Object.values(viewId).sort(),
  );
  assert.deepEqual(Object.keys(configuration.properties).sort(), Object.values(settingId).sort());
});

test('every text of the manifest exists in both languages', () => {
  const keys = [...read('package.json').matchAll(/"%([^%"]+)%"/g)].map((match) => match[1] ?? '');
  for (const file of ['package.nls.json', 'package.nls.de.json']) {
    const texts = JSON.parse(read(file)) as Record<string, string>;
    assert.deepEqual(
      keys.filter((key) => !texts[key]),
      [],
      file,
    );
  }
});

test('every text that the extension translates has its German', () => {
  const german = JSON.parse(read('l10n/bundle.l10n.de.json')) as Record<string, string>;
  const files = readdirSync(join(root, 'src/extension'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  const texts = files.flatMap((name) =>
    [...read(`src/extension/${name}`).matchAll(/\bt\(\s*'((?:[^'\\]|\\.)*)'/g)].map((match) =>
      (match[1] ?? '').replaceAll('\\n', '\n'),
    ),
  );
  assert.ok(texts.length > 40);
  assert.deepEqual(
    texts.filter((text) => !german[text]),
    [],
  );
});
