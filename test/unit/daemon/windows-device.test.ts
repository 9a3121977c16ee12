import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isReason } from '../../../src/base/index.ts';
import { openWindowsTun, type WintunAddon } from '../../../src/daemon/tun/windows.ts';

/** An addon that keeps a list of what was asked of it. */
function fakeAddon(calls: string[]): WintunAddon {
  return {
    open: (name, library) => {
      calls.push(`open ${name} ${library}`);
      return {};
    },
    start: (_session, buffer, _slot, _max, lengths, callback) => {
      buffer[0] = 7;
      lengths[0] = 1;
      callback(1);
    },
    write: () => {
      calls.push('write');
      return 0;
    },
    close: () => calls.push('close'),
    systemDirectory: () => '',
    isElevated: () => true,
  };
}

test('the library is taken from the folder of the program', () => {
  const calls: string[] = [];
  openWindowsTun(fakeAddon(calls), 'nf1001', 'C:\\Program Files\\Nearfield');
  assert.deepEqual(calls, ['open nf1001 C:\\Program Files\\Nearfield\\wintun.dll']);
});

test('packets arrive as a batch in the buffer', () => {
  const device = openWindowsTun(fakeAddon([]), 'nf1001', 'C:');
  const seen: number[] = [];
  device.start(({ buffer, lengths, count }) => seen.push(count, lengths[0] ?? 0, buffer[0] ?? 0));
  assert.deepEqual(seen, [1, 1, 7]);
});

test('a closed device is closed once, and takes no packets', () => {
  const calls: string[] = [];
  const device = openWindowsTun(fakeAddon(calls), 'nf1001', 'C:');
  device.close();
  device.close();
  assert.equal(device.write(new Uint8Array(0), new Int32Array(2), 1), 1);
  assert.deepEqual(calls.slice(1), ['close']);
});

test('an adapter that cannot be made is said with what to look at', () => {
  const addon: WintunAddon = { ...fakeAddon([]), open: () => assert.fail('signature of wintun.dll') };
  assert.throws(
    () => openWindowsTun(addon, 'nf1001', 'C:'),
    (error) =>
      isReason(error, 'daemon.device-failed') && String((error as { hint?: string }).hint).includes('wintun.dll'),
  );
});
