import assert from 'node:assert/strict';
import { access, mkdir, readFile, rename, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { failureAnswer } from '../../../../src/agent/files/answer.ts';
import { maxHandles } from '../../../../src/agent/files/handles.ts';
import { Places } from '../../../../src/agent/files/place.ts';
import { FileSession } from '../../../../src/agent/files/session.ts';
import { openFlag, type SftpRequest, type SftpResponse, statusCode } from '../../../../src/protocol/index.ts';
import { makeTree, type Tree } from './support.ts';

const top = '/tel_app_exports/server';
let tree: Tree;
let session: FileSession;

before(async () => {
  tree = await makeTree();
  session = new FileSession(new Places([tree.exported]));
});
after(async () => {
  await session.close();
  await tree.remove();
});

type Unnumbered<T> = T extends { readonly id: number } ? Omit<T, 'id'> : never;
const ask = (request: Unnumbered<SftpRequest>): Promise<SftpResponse> =>
  session.answer({ ...request, id: 7 } as SftpRequest);
const statusOf = async (request: Unnumbered<SftpRequest>): Promise<number | string> => {
  const answer = await ask(request);
  return answer.type === 'status' ? answer.code : answer.type;
};

async function handleOf(request: Unnumbered<SftpRequest>): Promise<Uint8Array> {
  const answer = await ask(request);
  assert.equal(answer.type, 'handle', JSON.stringify(answer));
  return answer.type === 'handle' ? answer.handle : new Uint8Array(0);
}

async function read(path: string): Promise<string> {
  const opened = await ask({ type: 'open', path, flags: openFlag.read, attributes: {} });
  if (opened.type !== 'handle') {
    return opened.type === 'status' ? `status ${opened.code}` : opened.type;
  }
  const answer = await ask({ type: 'read', handle: opened.handle, offset: 0, length: 100 });
  await ask({ type: 'close', handle: opened.handle });
  return answer.type === 'data' ? Buffer.from(answer.data).toString() : answer.type;
}

async function namesOf(path: string): Promise<string[]> {
  const handle = await handleOf({ type: 'opendir', path });
  const names: string[] = [];
  for (let answer = await ask({ type: 'readdir', handle }); answer.type === 'name'; ) {
    names.push(...answer.files.map(({ name }) => name));
    answer = await ask({ type: 'readdir', handle });
  }
  await ask({ type: 'close', handle });
  return names.sort();
}

test('the tree begins above the containers, and what the kubelet links is followed', async () => {
  assert.deepEqual(await namesOf('/'), ['tel_app_exports']);
  assert.deepEqual(await namesOf('/tel_app_exports'), ['server']);
  assert.deepEqual(await namesOf(top), ['data', 'etc', 'one.conf']);
  assert.deepEqual(await namesOf(`${top}/etc/app`), ['..1', '..data', 'app.conf', 'key']);
  assert.equal(await read(`${top}/etc/app/app.conf`), 'one');
  assert.equal(await read(`${top}/one.conf`), 'single');
  assert.equal(await statusOf({ type: 'lstat', path: `${top}/etc/app/key` }), 'attrs');
});

test('no way of writing a path leads out of the exports', async () => {
  for (const path of [
    '/etc/passwd',
    `${top}/../../etc/passwd`,
    `${top}/../neighbour/data/secret`,
    '/tel_app_exports/neighbour/data/secret',
    '/tel_app_exports/../tel_app_mounts/server/one.conf',
    '../../../etc/passwd',
    `${top}/data/../../../../../../etc/passwd`,
    `${top}/one.conf\0/../../secret`,
    `/tel_app_exports/..${tree.outside}/secret`,
    `${top}/${'a/'.repeat(3_000)}`,
  ]) {
    assert.equal(await read(path), `status ${statusCode.noSuchFile}`, path);
  }
});

test('no link leads out of the container’s own tree', async () => {
  const data = join(tree.exported.root, 'data');
  await symlink(join(tree.outside, 'secret'), join(data, 'absolute'));
  await symlink('../../../outside/secret', join(data, 'relative'));
  await symlink('../../neighbour/data/secret', join(data, 'neighbour'));
  await symlink('../../..', join(data, 'up'));
  await symlink('loop', join(data, 'loop'));
  await symlink('/data/deep/file', join(data, 'as-the-container-sees-it'));
  await symlink('/proc/self/environ', join(data, 'environ'));
  for (const name of [
    'absolute',
    'relative',
    'neighbour',
    'up/outside/secret',
    'up/../outside/secret',
    'loop',
    'environ',
  ]) {
    assert.equal(await read(`${top}/data/${name}`), `status ${statusCode.noSuchFile}`, name);
  }
  assert.equal(await read(`${top}/data/as-the-container-sees-it`), 'content');
  // Nor is anything written through one.
  const flags = openFlag.write | openFlag.create;
  assert.notEqual(await statusOf({ type: 'open', path: `${top}/data/absolute`, flags, attributes: {} }), 'handle');
  assert.equal(await readFile(join(tree.outside, 'secret'), 'utf8'), 'outside');
});

test('a link that a client makes leads it nowhere else', async () => {
  assert.equal(await statusOf({ type: 'symlink', target: tree.outside, path: `${top}/data/trap` }), statusCode.ok);
  assert.equal(await statusOf({ type: 'opendir', path: `${top}/data/trap` }), statusCode.noSuchFile);
  const made = { type: 'mkdir', path: `${top}/data/trap/x`, attributes: {} } as const;
  assert.equal(await statusOf(made), statusCode.noSuchFile);
  await assert.rejects(access(join(tree.outside, 'x')));
});

test('a folder that becomes a link between the look and the use is noticed', async () => {
  const { root } = tree.exported;
  const victim = join(root, 'data/victim');
  for (const [folder, text] of [
    [join(root, 'data/real/deep'), 'inside'],
    [join(tree.outside, 'deep'), 'outside'],
  ] as const) {
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'secret'), text);
  }
  await symlink(tree.outside, join(root, 'data/fake'));
  await rename(join(root, 'data/real'), victim);
  let isOver = false;
  const swap = async (): Promise<void> => {
    while (!isOver) {
      await rename(victim, join(root, 'data/real'));
      await rename(join(root, 'data/fake'), victim);
      await rename(victim, join(root, 'data/fake'));
      await rename(join(root, 'data/real'), victim);
    }
  };
  const swapping = swap();
  const seen = new Set<string>();
  for (let each = 0; each < 400; each++) {
    seen.add(await read(`${top}/data/victim/deep/secret`));
  }
  isOver = true;
  await swapping;
  assert.equal(seen.has('outside'), false);
});

test('what is written is there, renamed and removed', async () => {
  const path = `${top}/data/new`;
  const flags = openFlag.write | openFlag.create | openFlag.truncate;
  const handle = await handleOf({ type: 'open', path, flags, attributes: { mode: 0o640 } });
  assert.equal(await statusOf({ type: 'write', handle, offset: 2, data: Buffer.from('cd') }), statusCode.ok);
  assert.equal(await statusOf({ type: 'write', handle, offset: 0, data: Buffer.from('ab') }), statusCode.ok);
  assert.equal(await statusOf({ type: 'fsetstat', handle, attributes: { size: 3 } }), statusCode.ok);
  assert.equal(await statusOf({ type: 'close', handle }), statusCode.ok);
  assert.equal(await statusOf({ type: 'close', handle }), statusCode.badMessage);
  const file = join(tree.exported.root, 'data/new');
  assert.equal(await readFile(file, 'utf8'), 'abc');
  assert.equal((await stat(file)).mode & 0o777, 0o640);
  const times = { accessedS: 5, modifiedS: 6 };
  assert.equal(await statusOf({ type: 'setstat', path, attributes: { mode: 0o600, times } }), statusCode.ok);
  assert.equal((await stat(file)).mtimeMs, 6_000);
  const taken = `${top}/data/deep/file`;
  assert.equal(await statusOf({ type: 'rename', from: path, to: taken }), statusCode.badMessage);
  assert.equal(await statusOf({ type: 'rename', from: path, to: `${top}/data/newer` }), statusCode.ok);
  assert.equal(await statusOf({ type: 'remove', path: `${top}/data/newer` }), statusCode.ok);
  assert.equal(await statusOf({ type: 'mkdir', path: `${top}/data/folder`, attributes: {} }), statusCode.ok);
  assert.equal(await statusOf({ type: 'rmdir', path: `${top}/data/folder` }), statusCode.ok);
  await assert.rejects(access(file));
});

test('a volume that is shared for reading refuses every change, also by a way through another', async () => {
  const app = `${top}/etc/app`;
  await symlink('/etc/app', join(tree.exported.root, 'data/to-app'));
  const flags = openFlag.write | openFlag.create;
  for (const request of [
    { type: 'open', path: `${app}/app.conf`, flags, attributes: {} },
    { type: 'open', path: `${top}/data/to-app/new`, flags, attributes: {} },
    { type: 'open', path: `${top}/beside-the-volumes`, flags, attributes: {} },
    { type: 'remove', path: `${app}/app.conf` },
    { type: 'mkdir', path: `${app}/x`, attributes: {} },
    { type: 'rmdir', path: `${app}/..1` },
    { type: 'symlink', target: 'x', path: `${app}/x` },
    { type: 'rename', from: `${app}/app.conf`, to: `${top}/data/x` },
    { type: 'rename', from: `${top}/data/deep`, to: `${app}/x` },
    { type: 'setstat', path: `${app}/app.conf`, attributes: { size: 0 } },
  ] as const) {
    assert.equal(await statusOf(request), statusCode.permissionDenied, JSON.stringify(request));
  }
  assert.equal(await read(`${app}/app.conf`), 'one');
});

test('what a client may not do ends in an answer, and so do too many handles', async () => {
  const handle = Uint8Array.of(1);
  for (const request of [
    { type: 'read', handle, offset: 0, length: 1 },
    { type: 'write', handle, offset: 0, data: handle },
    { type: 'readdir', handle },
    { type: 'fstat', handle: new Uint8Array(0) },
  ] as const) {
    assert.equal(await statusOf(request), statusCode.badMessage);
  }
  assert.equal(await statusOf({ type: 'extended', name: 'run@example', data: handle }), statusCode.unsupported);
  assert.equal(await statusOf({ type: 'open', path: `${top}/data`, flags: 1, attributes: {} }), statusCode.badMessage);
  const open = { type: 'open', path: `${top}/one.conf`, flags: openFlag.read, attributes: {} } as const;
  for (let each = 0; each < maxHandles; each++) {
    await handleOf(open);
  }
  assert.equal(await statusOf(open), statusCode.badMessage);
  await session.close();
  await handleOf(open);
});

test('what the system refuses is told by its kind, and without paths of the pod', () => {
  const codeOf = (code: string): SftpResponse =>
    failureAnswer(7, Object.assign(new RangeError(`${code}: /secret`), { code }));
  const { permissionDenied, noSuchFile, failure } = statusCode;
  for (const [code, expected] of [
    ['EACCES', permissionDenied],
    ['EROFS', permissionDenied],
    ['ENOTDIR', noSuchFile],
    ['ENOSPC', failure],
  ] as const) {
    assert.deepEqual(codeOf(code), { type: 'status', id: 7, code: expected, message: code });
  }
});
