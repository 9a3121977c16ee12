import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type FileAttributes,
  fileKindOf,
  parseSftp,
  SftpReader,
  type SftpRequest,
  type SftpResponse,
  serializeSftp,
} from '../../../src/protocol/index.ts';

const handle = Uint8Array.of(0, 0, 0, 9);
const data = Uint8Array.of(1, 2, 3);
const attributes: FileAttributes = {
  size: 5_000_000_000,
  owner: { uid: 1000, gid: 0 },
  mode: 0o100_644,
  times: { accessedS: 4_000_000_000, modifiedS: 1 },
};

const packets: (SftpRequest | SftpResponse)[] = [
  { type: 'init', version: 3 },
  { type: 'open', id: 1, path: '/é', flags: 3, attributes: {} },
  { type: 'close', id: 2, handle },
  { type: 'read', id: 3, handle, offset: 5_000_000_000, length: 32_768 },
  { type: 'write', id: 0xffff_ffff, handle, offset: 0, data },
  { type: 'lstat', id: 5, path: '/a' },
  { type: 'fstat', id: 6, handle },
  { type: 'setstat', id: 7, path: '/a', attributes: { mode: 0o600 } },
  { type: 'fsetstat', id: 8, handle, attributes: { size: 0 } },
  { type: 'opendir', id: 9, path: '' },
  { type: 'readdir', id: 10, handle },
  { type: 'remove', id: 11, path: '/a' },
  { type: 'mkdir', id: 12, path: '/a', attributes: {} },
  { type: 'rmdir', id: 13, path: '/a' },
  { type: 'realpath', id: 14, path: '.' },
  { type: 'stat', id: 15, path: '/a' },
  { type: 'rename', id: 16, from: '/a', to: '/b' },
  { type: 'readlink', id: 17, path: '/a' },
  { type: 'symlink', id: 18, target: 'a', path: '/b' },
  { type: 'extended', id: 19, name: 'statvfs@openssh.com', data },
  { type: 'version', version: 3, extensions: [{ name: 'fsync@openssh.com', version: '1' }] },
  { type: 'status', id: 1, code: 2, message: 'gone' },
  { type: 'handle', id: 1, handle },
  { type: 'data', id: 1, data },
  { type: 'name', id: 1, files: [{ name: 'a', longName: '-rw-r--r-- a', attributes }] },
  { type: 'attrs', id: 1, attributes },
  { type: 'extended-reply', id: 1, data },
];

for (const packet of packets) {
  test(`a packet ${packet.type} survives the round trip byte by byte`, () => {
    const reader = new SftpReader();
    const bytes = serializeSftp(packet);
    for (const byte of bytes.subarray(0, -1)) {
      reader.push(Uint8Array.of(byte));
      assert.equal(reader.read().kind, 'need-more');
    }
    reader.push(bytes.subarray(-1));
    const read = reader.read();
    assert.deepEqual(read, { kind: 'value', value: packet, bytesRead: bytes.length });
    assert.equal(reader.read().kind, 'need-more');
  });
}

test('bytes of a request are those of the draft', () => {
  assert.deepEqual(
    [...serializeSftp({ type: 'open', id: 1, path: '/a', flags: 1, attributes: {} })],
    //   length      open  id          path               flags       no attributes
    [0, 0, 0, 19, 3, 0, 0, 0, 1, 0, 0, 0, 2, 47, 97, 0, 0, 0, 1, 0, 0, 0, 0],
  );
});

for (const [what, bytes] of [
  ['of no length', [0, 0, 0, 0]],
  ['longer than the limit', [0, 4, 0, 1, 5]],
  ['of an unknown type', [0, 0, 0, 5, 99, 0, 0, 0, 1]],
  ['without its id', [0, 0, 0, 3, 4, 0, 0]],
  ['whose text is longer than itself', [0, 0, 0, 10, 17, 0, 0, 0, 1, 0, 0, 0, 9, 47]],
  ['with a place beyond every file', [0, 0, 0, 21, 5, 0, 0, 0, 1, 0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]],
] as const) {
  test(`a packet ${what} is malformed`, () => {
    const reader = new SftpReader();
    reader.push(Uint8Array.from(bytes));
    assert.equal(reader.read().kind, 'malformed');
  });
}

test('attributes of other versions are passed over', () => {
  const extended = [105, 0, 0, 0, 1, 0x80, 0, 0, 4, 0, 0, 0x81, 0xa4, 0, 0, 0, 1, 0, 0, 0, 1, 97, 0, 0, 0, 1, 98];
  assert.deepEqual(parseSftp(Uint8Array.from(extended)), { type: 'attrs', id: 1, attributes: { mode: 0o100_644 } });
});

test('a mode says what a file is', () => {
  const kinds = [0o040_755, 0o100_644, 0o120_777, 0o140_777].map((mode) => fileKindOf({ mode }));
  assert.deepEqual(kinds, ['directory', 'file', 'link', 'other']);
});
