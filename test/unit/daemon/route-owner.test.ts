import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ownerOfDevice } from '../../../src/daemon/os/linux/route-owner.ts';

const kinds: Readonly<Record<string, string>> = {
  tun9: 'tun',
  tun8: 'tun',
  wg0: 'wireguard',
  docker0: 'bridge',
  br0: 'bridge',
};

const run = async (_file: string, args: readonly string[]): Promise<string> => {
  const kind = kinds[args.at(-1) ?? ''];
  return JSON.stringify(kind ? [{ linkinfo: { info_kind: kind } }] : [{}]);
};

async function withProcesses(work: (processes: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'nearfield-proc-'));
  try {
    await mkdir(join(folder, '41/fdinfo'), { recursive: true });
    await mkdir(join(folder, '42/fdinfo'), { recursive: true });
    await mkdir(join(folder, 'self'));
    await writeFile(join(folder, '41/fdinfo/3'), 'pos:\t0\n');
    await writeFile(join(folder, '42/fdinfo/7'), 'pos:\t0\nflags:\t02\niff:\ttun9\n');
    await writeFile(join(folder, '42/comm'), 'open\u001b[31mvpn\n');
    await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

test('a TUN belongs to the program that holds it, and the program’s name cannot draw on the screen', () =>
  withProcesses(async (processes) => {
    assert.equal(await ownerOfDevice('tun9', { run, processes }), 'open31mvpn (process 42)');
  }));

test('a TUN that nobody holds is not given a wrong owner', () =>
  withProcesses(async (processes) => {
    assert.equal(await ownerOfDevice('tun8', { run, processes }), undefined);
  }));

for (const [device, owner] of [
  ['docker0', 'Docker'],
  ['br-0123456789ab', 'Docker'],
  ['virbr0', 'libvirt'],
  ['wg0', 'WireGuard'],
  ['br0', 'a bridge'],
  ['eth0', undefined],
] as const) {
  test(`${device} belongs to ${owner ?? 'nobody in particular'}`, async () => {
    assert.equal(await ownerOfDevice(device, { run, processes: '/nonexistent' }), owner);
  });
}
