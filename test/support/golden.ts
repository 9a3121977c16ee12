import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const folder = join(import.meta.dirname, '../golden');

/** Compares with what is checked in. `UPDATE_GOLDEN=1` writes it anew, for a review to look at. */
export function matchesGolden(name: string, text: string): void {
  const file = join(folder, name);
  if (process.env['UPDATE_GOLDEN']) {
    writeFileSync(file, text);
  }
  assert.ok(existsSync(file), `${name} is not there: run with UPDATE_GOLDEN=1`);
  assert.equal(text, readFileSync(file, 'utf8'));
}
