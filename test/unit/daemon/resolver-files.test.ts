import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isReason } from '../../../src/base/index.ts';
import type { ResolverPlan } from '../../../src/daemon/os/contract.ts';
import { ResolverFiles } from '../../../src/daemon/os/darwin/resolver-files.ts';
import { type FileSystem, realFiles } from '../../../src/daemon/os/files.ts';

/** A machine's files; prints them. */
class FakeFiles implements FileSystem {
  readonly files = new Map<string, string>();
  readonly changes: string[] = [];

  list(folder: string): string[] {
    return [...this.files.keys()]
      .filter((path) => path.startsWith(`${folder}/`))
      .map((path) => path.slice(folder.length + 1));
  }

  read(path: string): string | undefined {
    return this.files.get(path);
  }

  write(path: string, text: string): void {
    this.changes.push(`write ${path}`);
    this.files.set(path, text);
  }

  remove(path: string): void {
    this.changes.push(`remove ${path}`);
    this.files.delete(path);
  }

  print(): string {
    return [...this.files].map(([path, text]) => `== ${path}\n${text}`).join('\n');
  }
}

const plan: ResolverPlan = {
  device: 'utun9',
  port: 51_011,
  resolvers: [],
  sourcePorts: [],
  routedDomains: ['default', 'svc', 'corp.example', 'cluster.local'],
  searchDomains: ['tel2-search', 'default'],
  subnets: [],
};
const golden = new URL('../../golden/resolver-files.txt', import.meta.url);

test('macOS gets a file for each domain', async () => {
  const files = new FakeFiles();
  await new ResolverFiles(files).apply(plan);
  if (process.env['UPDATE_GOLDEN']) {
    writeFileSync(golden, files.print());
  }
  assert.equal(files.print(), readFileSync(golden, 'utf8'));
});

test('the same plan again writes nothing, and another one only what differs', async () => {
  const files = new FakeFiles();
  const resolver = new ResolverFiles(files);
  await resolver.apply(plan);
  files.changes.length = 0;
  await resolver.apply(plan);
  assert.deepEqual(files.changes, []);
  await resolver.apply({ ...plan, searchDomains: ['tel2-search', 'other'], routedDomains: ['default', 'svc'] });
  assert.deepEqual(files.changes, [
    'write /etc/resolver/nearfield.default',
    'write /etc/resolver/nearfield.other',
    'remove /etc/resolver/nearfield.corp.example',
    'remove /etc/resolver/nearfield.cluster.local',
  ]);
});

test('files of others stay, whatever they are called; ours go, also those of a killed predecessor', async () => {
  const files = new FakeFiles();
  const others = ['cluster.local', 'telepresence.svc', 'my.nearfield.svc', 'nearfield'];
  for (const name of others) {
    files.files.set(`/etc/resolver/${name}`, 'nameserver 192.0.2.1\n');
  }
  await new ResolverFiles(files).apply(plan);
  files.files.set('/etc/resolver/nearfield.svc.new', 'half');
  await new ResolverFiles(files).clear();
  assert.deepEqual(files.list('/etc/resolver'), others);
});

for (const domain of ['../passwd', 'a/b', '..', '']) {
  test(`${JSON.stringify(domain)} does not become a path`, async () => {
    const files = new FakeFiles();
    await assert.rejects(new ResolverFiles(files).apply({ ...plan, routedDomains: [domain] }), (error) =>
      isReason(error, 'daemon.bad-request'),
    );
    assert.deepEqual(files.changes, []);
  });
}

test('real files are written whole, readable by all, and over a link instead of through it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'nearfield-files-'));
  try {
    const path = join(folder, 'resolver/nearfield.svc');
    realFiles.write(path, 'one\n');
    realFiles.write(path, 'two\n');
    assert.equal(realFiles.read(path), 'two\n');
    assert.equal(statSync(path).mode & 0o777, 0o644);
    assert.deepEqual(readdirSync(join(folder, 'resolver')), ['nearfield.svc']);
    const elsewhere = join(folder, 'elsewhere');
    writeFileSync(elsewhere, 'mine');
    realFiles.remove(path);
    symlinkSync(elsewhere, path);
    realFiles.write(path, 'three\n');
    assert.equal(readFileSync(elsewhere, 'utf8'), 'mine');
    assert.equal(realFiles.read(path), 'three\n');
    realFiles.remove(path);
    realFiles.remove(path);
    assert.equal(realFiles.read(path), undefined);
    assert.deepEqual(realFiles.list(join(folder, 'nowhere')), []);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
