import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Places } from '../../../src/agent/files/place.ts';
import { FileSession } from '../../../src/agent/files/session.ts';
import { mountPolicies, parseSftp, SftpReader, type SftpRequest, serializeSftp } from '../../../src/protocol/index.ts';
import type { Target } from '../target.ts';

const top = '/tel_app_exports/server';
const handle = Uint8Array.of(0, 0, 0, 1);
const seeds: readonly SftpRequest[] = [
  { type: 'init', version: 3 },
  { type: 'open', id: 1, path: `${top}/data/file`, flags: 1 | 2 | 8, attributes: { mode: 0o600 } },
  { type: 'open', id: 1, path: `${top}/only/file`, flags: 2, attributes: {} },
  { type: 'write', id: 2, handle, offset: 0, data: Uint8Array.of(1) },
  { type: 'read', id: 2, handle, offset: 0, length: 10 },
  { type: 'symlink', id: 3, target: '../../..', path: `${top}/data/link` },
  { type: 'rename', id: 3, from: `${top}/data/link`, to: `${top}/data/deep/other` },
  { type: 'opendir', id: 4, path: `${top}/data/link/../..` },
  { type: 'readdir', id: 5, handle },
  { type: 'mkdir', id: 6, path: `${top}/data/deep/x`, attributes: {} },
  { type: 'remove', id: 7, path: `${top}/data/file` },
  { type: 'setstat', id: 7, path: `${top}/data/link/outside`, attributes: { size: 0 } },
  { type: 'extended', id: 8, name: 'posix-rename@openssh.com', data: new Uint8Array(12) },
];

/**
 * Packets are read the same whole and in parts, and what is read can be written; whatever a client asks of the file
 * server, it is answered, and nothing outside the volume that may be written changes.
 */
export function openSftpTarget(): Target {
  const folder = mkdtempSync(join(tmpdir(), 'nearfield-fuzz-'));
  const root = join(folder, 'server');
  for (const each of ['server/data/deep', 'server/only', 'outside']) {
    mkdirSync(join(folder, each), { recursive: true });
  }
  for (const each of ['server/only/file', 'outside/secret']) {
    writeFileSync(join(folder, each), 'same');
  }
  symlinkSync('/outside', join(root, 'data/absolute'));
  const mounts = { '/data': mountPolicies.remote, '/only': mountPolicies.remoteReadOnly };
  const session = new FileSession(new Places([{ container: 'server', root, mounts }]));
  return {
    seeds: seeds.map(serializeSftp),
    async run(input, random) {
      const reader = new SftpReader();
      const cut = random.below(input.length + 1);
      reader.push(input.subarray(0, cut));
      const packets: unknown[] = [];
      const requests: SftpRequest[] = [];
      const readAll = (): void => {
        for (let read = reader.read(); read.kind === 'value'; read = reader.read()) {
          const packet = read.value;
          const again = parseSftp(serializeSftp(packet).subarray(4));
          assert.deepEqual(again, packet, 'what was read can be written');
          packets.push(packet);
          if (!['version', 'status', 'handle', 'data', 'name', 'attrs', 'extended-reply'].includes(packet.type)) {
            requests.push(packet as SftpRequest);
          }
        }
      };
      readAll();
      reader.push(input.subarray(cut));
      readAll();
      for (const request of requests) {
        const answer = await session.answer(structuredClone(request));
        assert.equal(request.type === 'init' || ('id' in answer && answer.id === request.id), true);
        assert.ok(serializeSftp(answer).length <= 256 * 1024);
      }
    },
    settle() {
      for (const each of ['server/only/file', 'outside/secret']) {
        assert.equal(readFileSync(join(folder, each), 'utf8'), 'same', each);
      }
      assert.deepEqual(readdirSync(folder).sort(), ['outside', 'server']);
      assert.deepEqual(readdirSync(root).sort(), ['data', 'only']);
      assert.deepEqual(readdirSync(join(folder, 'outside')), ['secret']);
    },
    async close() {
      await session.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
