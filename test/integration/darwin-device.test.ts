import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createSocket, type RemoteInfo } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isReason } from '../../src/base/index.ts';
import { openDarwinTun, type UtunAddon } from '../../src/daemon/tun/darwin.ts';
import { offloadHeaderBytes, slotBytes, type TunDevice } from '../../src/daemon/tun/device.ts';

/**
 * The utun addon, compiled here against headers that stand in for those of macOS: the device is a UDP socket, and the
 * test is the kernel at its other end. What it says of macOS is only that the calls are the ones that were meant.
 */
const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'nearfield-utun-'));
const kernel = createSocket('udp4');
let addon: UtunAddon;

before(async () => {
  const library = join(folder, 'tun-darwin.node');
  const includes = ['node_modules/node-api-headers/include', 'test/support/native/utun'].map(
    (each) => `-I${join(root, each)}`,
  );
  const flags = ['-O2', '-Wall', '-Wextra', '-Werror', '-fPIC', '-shared', '-D_GNU_SOURCE'];
  execFileSync('gcc', [...flags, ...includes, '-o', library, join(root, 'src/daemon/tun/addon/darwin.c')]);
  kernel.bind(0, '127.0.0.1');
  await once(kernel, 'listening');
  process.env['UTUN_PORT'] = String(kernel.address().port);
  addon = createRequire(import.meta.url)(library) as UtunAddon;
});

after(() => {
  kernel.close();
  rmSync(folder, { recursive: true, force: true });
});

function open(t: TestContext): TunDevice {
  const device = openDarwinTun(addon);
  // Also where a test fails: an open device keeps the process.
  t.after(() => device.close());
  return device;
}

const ip4 = Uint8Array.of(0x45, 1, 2, 3, 4, 5);
const ip6 = Uint8Array.of(0x60, 9, 8, 7);

/** Packets as the pipeline has them: one after the other, each behind its offload header. */
function framed(...packets: readonly Uint8Array[]): { buffer: Uint8Array; descriptors: Int32Array } {
  const buffer = new Uint8Array(packets.reduce((sum, { length }) => sum + offloadHeaderBytes + length, 0)).fill(0xee);
  const descriptors = new Int32Array(2 * packets.length);
  let at = 0;
  for (const [index, packet] of packets.entries()) {
    buffer.set(packet, at + offloadHeaderBytes);
    descriptors.set([at, offloadHeaderBytes + packet.length], 2 * index);
    at += offloadHeaderBytes + packet.length;
  }
  return { buffer, descriptors };
}

async function received(count: number): Promise<{ packets: Buffer[]; from: RemoteInfo }> {
  const packets: Buffer[] = [];
  for (;;) {
    const [packet, from] = (await once(kernel, 'message', { signal: AbortSignal.timeout(5_000) })) as [
      Buffer,
      RemoteInfo,
    ];
    packets.push(packet);
    if (packets.length === count) {
      return { packets, from };
    }
  }
}

test('the device has the name that the system gave it', (t) => {
  const device = open(t);
  assert.equal(device.name, 'utun7');
  device.close();
  device.close();
});

test('packets are written behind the number of their family, without the offload header', async (t) => {
  const device = open(t);
  const { buffer, descriptors } = framed(ip4, ip6);
  const arrived = received(2);
  assert.equal(device.write(buffer, descriptors, 2), 0);
  assert.deepEqual(
    (await arrived).packets.map((packet) => [...packet]),
    [
      [0, 0, 0, 2, ...ip4],
      [0, 0, 0, 30, ...ip6],
    ],
  );
});

test('what does not lie in the buffer, or is no packet, is not written', (t) => {
  const device = open(t);
  const { buffer } = framed(ip4);
  const wrong = Int32Array.of(-1, 12, 0, -5, 0, offloadHeaderBytes, 4, 1_000_000);
  assert.equal(device.write(buffer, wrong, 4), 4);
});

test('packets are read into slots behind an empty offload header', async (t) => {
  const device = open(t);
  const { buffer, descriptors } = framed(ip4);
  const arrived = received(1);
  device.write(buffer, descriptors, 1);
  const { from } = await arrived;
  const large = new Uint8Array(65_000).fill(7);
  const send = (packet: Uint8Array): void => kernel.send(Uint8Array.of(0, 0, 0, 2, ...packet), from.port, from.address);
  const waiting = [ip6, large];
  send(ip4);
  const packets: Uint8Array[] = [];
  await new Promise<void>((resolve) =>
    device.start((batch) => {
      for (let i = 0; i < batch.count; i++) {
        packets.push(batch.buffer.slice(i * slotBytes, i * slotBytes + (batch.lengths[i] ?? 0)));
      }
      // What a pipeline leaves behind must not be there when the slots are used again.
      batch.buffer.fill(0xff);
      const next = waiting.shift();
      if (next) {
        send(next);
      } else {
        resolve();
      }
    }),
  );
  const empty = new Uint8Array(offloadHeaderBytes);
  assert.deepEqual(
    packets,
    [ip4, ip6, large].map((packet) => Uint8Array.of(...empty, ...packet)),
  );
});

test('a device that cannot be opened is said with its reason', () => {
  const port = process.env['UTUN_PORT'];
  delete process.env['UTUN_PORT'];
  assert.throws(
    () => openDarwinTun(addon),
    (error) => isReason(error, 'daemon.device-failed') && /connect utun/.test(String((error as Error).cause)),
  );
  process.env['UTUN_PORT'] = port;
});
