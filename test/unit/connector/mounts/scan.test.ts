import assert from 'node:assert/strict';
import { test } from 'node:test';
import { filesRefused } from '../../../../src/connector/errors.ts';
import { type ScanLimits, scanVolume } from '../../../../src/connector/mounts/scan.ts';
import type { FileAttributes, NamedFile } from '../../../../src/protocol/index.ts';

const limits: ScanLimits = { totalBytes: 100, fileBytes: 50, files: 5, depth: 3 };
type Node = number | string | { readonly [name: string]: Node } | 'denied';
const folderMode = 0o040_755;
const linkMode = 0o120_777;
const fileMode = 0o100_644;

/** A pod's files: numbers are files of that size, texts are links, `denied` is a folder that may not be read. */
function podOf(tree: Node) {
  const at = (path: string): Node | undefined =>
    path
      .split('/')
      .filter(Boolean)
      .reduce<Node | undefined>((node, name) => (typeof node === 'object' ? node[name] : undefined), tree);
  const attributesOf = (node: Node): FileAttributes =>
    typeof node === 'number'
      ? { mode: fileMode, size: node, times: { accessedS: 0, modifiedS: 1 } }
      : { mode: typeof node === 'string' && node !== 'denied' ? linkMode : folderMode };
  const found = (path: string): Node => {
    const node = at(path);
    if (node === undefined) {
      throw filesRefused('not_found', '');
    }
    return node;
  };
  return {
    attributes: async (path: string) => {
      const node = found(path);
      return attributesOf(
        typeof node === 'string' && node !== 'denied' ? found(`${path}/../${node}`.replace(/[^/]+\/\.\.\//, '')) : node,
      );
    },
    readLink: async (path: string) => String(found(path)),
    list: async (path: string): Promise<NamedFile[]> => {
      const node = found(path);
      if (typeof node !== 'object') {
        throw filesRefused(node === 'denied' ? 'permission_denied' : 'not_found', '');
      }
      return Object.entries(node).map(([name, each]) => ({ name, longName: '', attributes: attributesOf(each) }));
    },
  };
}

async function look(tree: Node, path = '/v') {
  const { files, folders, leftOut, isPublished } = await scanVolume(podOf({ v: tree }), path, limits);
  return {
    files: [...files].map(([name, { source }]) => `${name} ← ${source}`),
    folders: [...folders],
    leftOut: leftOut.map((each) => `${each.path}: ${each.reason}`),
    isPublished,
  };
}

test('what the kubelet publishes is read through the folder of one version', async () => {
  assert.deepEqual(
    await look({ '..2': { a: 1, nested: { b: 2 } }, '..data': '..2', a: '..data/a', nested: '..data/nested' }),
    {
      files: ['a ← /v/..2/a', 'nested/b ← /v/..2/nested/b'],
      folders: ['nested'],
      leftOut: [],
      isPublished: true,
    },
  );
});

test('another version is another content, whatever its time says', async () => {
  const stampOf = async (version: string) =>
    (await scanVolume(podOf({ v: { [version]: { a: 1 }, '..data': version } }), '/v', limits)).files.get('a')?.stamp;
  assert.notEqual(await stampOf('..1'), await stampOf('..2'));
});

test('a volume may be one file', async () => {
  const found = await look(7);
  assert.deepEqual([found.files, found.isPublished], [[' ← /v'], false]);
});

test('what is beyond the limits is left out, and said', async () => {
  assert.deepEqual((await look({ large: 51, a: 50, b: 49, c: 2 })).leftOut, ['large: too-large', 'c: too-large']);
  assert.deepEqual((await look({ a: 1, b: 1, c: 1, d: 1, e: 1, f: 1 })).leftOut, ['f: too-many']);
  assert.deepEqual((await look({ a: { b: { c: { d: { e: 1 } } } } })).leftOut, ['a/b/c/d: too-deep']);
  assert.deepEqual((await look({ closed: 'denied', open: 1 })).leftOut, ['closed: unreadable']);
});

test('a link to a file is the file, one to a folder is not followed, and one to nothing is nothing', async () => {
  const found = await look({ file: 3, folder: {}, 'to-file': 'file', 'to-folder': 'folder', dangling: 'nowhere' });
  assert.deepEqual(found.files, ['file ← /v/file', 'to-file ← /v/to-file']);
  assert.deepEqual(found.leftOut, ['to-folder: linked-folder']);
});

test('names that lead elsewhere are none', async () => {
  const found = await look({ '../../evil': 1, '..': { x: 1 }, 'a\\b': 1, 'nul\0': 1, ok: 1 });
  assert.deepEqual(found.files, ['ok ← /v/ok']);
  assert.equal(found.leftOut.filter((each) => each.endsWith('bad-name')).length, 4);
});
