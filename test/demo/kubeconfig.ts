import { readFile } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import { parseDocument } from 'yaml';

const referenced: readonly (readonly [list: string, entry: string, field: string])[] = [
  ['clusters', 'cluster', 'certificate-authority'],
  ['users', 'user', 'client-certificate'],
  ['users', 'user', 'client-key'],
];

/** A kubeconfig that another user can read: what it names by file is put into it. */
export async function readSelfContained(path: string): Promise<string> {
  const document = parseDocument(await readFile(path, 'utf8'));
  for (const [list, entry, field] of referenced) {
    const items = document.get(list) as { items?: unknown[] } | undefined;
    for (const index of items?.items?.keys() ?? []) {
      const file = document.getIn([list, index, entry, field]);
      if (typeof file === 'string') {
        const content = await readFile(isAbsolute(file) ? file : join(dirname(path), file));
        document.deleteIn([list, index, entry, field]);
        document.setIn([list, index, entry, `${field}-data`], content.toString('base64'));
      }
    }
  }
  return document.toString();
}
