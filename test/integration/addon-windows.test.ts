import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const tools = '/usr/bin/x86_64-w64-mingw32-';
const skip = existsSync(`${tools}gcc`) ? false : 'needs gcc-mingw-w64-x86-64';

test('the addon of Windows compiles without a warning, and needs nothing of Node’s by the name of its program', {
  skip,
}, () => {
  const folder = mkdtempSync(join(tmpdir(), 'nearfield-wintun-'));
  try {
    const library = join(folder, 'tun-windows.node');
    const flags = [
      '-O2',
      '-Wall',
      '-Wextra',
      '-Werror',
      '-shared',
      '-s',
      `-I${join(root, 'node_modules/node-api-headers/include')}`,
    ];
    const source = join(root, 'src/daemon/tun/addon/windows.c');
    execFileSync(`${tools}gcc`, [...flags, '-o', library, source, '-lwintrust', '-ladvapi32']);
    const description = execFileSync(`${tools}objdump`, ['-p', library], { encoding: 'utf8' });
    const imports = [...description.matchAll(/DLL Name: (\S+)/g)].map((match) => (match[1] ?? '').toLowerCase());
    assert.deepEqual(imports.sort(), ['advapi32.dll', 'kernel32.dll', 'msvcrt.dll', 'wintrust.dll']);
    assert.match(description, /napi_register_module_v1/);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
