import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLogger, formatIp, isReason, type LogLine, silentLogger } from '../../../src/base/index.ts';
import type { RunCommand } from '../../../src/daemon/os/command.ts';
import { WindowsFirewall } from '../../../src/daemon/os/windows/firewall.ts';
import { WindowsNetwork } from '../../../src/daemon/os/windows/network.ts';
import { createWindowsPlatform, toAddresses } from '../../../src/daemon/os/windows/platform.ts';
import { ask, fromSystemFolder, listOf } from '../../../src/daemon/os/windows/powershell.ts';
import type { WintunAddon } from '../../../src/daemon/tun/windows.ts';
import { HandClock } from '../manager/hand-clock.ts';
import { FakeMachine } from './machine.ts';
import { runWindows } from './machine-windows.ts';
import { describeNetwork } from './platform-contract.ts';

const device = 'nf1001';

let clock = new HandClock();
describeNetwork({
  name: 'windows',
  device,
  create(machine) {
    clock = new HandClock();
    return new WindowsNetwork({ clock, run: runWindows(machine) });
  },
  look: () => clock.advance(15_000),
});

test('the firewall lets in what comes by our adapter, once, and is as before at the end', async () => {
  const machine = new FakeMachine(device);
  const before = machine.print();
  const firewall = new WindowsFirewall(runWindows(machine), silentLogger);
  await firewall.open(device);
  await firewall.open(device);
  const rule = "nearfield nf1001: -Direction Inbound -Action Allow -InterfaceAlias 'nf1001'";
  assert.equal(machine.print(), `${before}\n${rule}`);
  await firewall.close(device);
  await firewall.close(device);
  assert.equal(machine.print(), before);
});

test('a name with a quote stays a text', async () => {
  const scripts: string[] = [];
  const run: RunCommand = async (_, args) => {
    scripts.push(args.at(-1) ?? '');
    return '[]';
  };
  await new WindowsFirewall(run, silentLogger).close("a'; Stop-Computer; '");
  assert.match(scripts[0] ?? '', /-eq 'nearfield a''; Stop-Computer; '''/);
});

test('modules are looked for in the system folder before anything is asked', async () => {
  let script = '';
  const run: RunCommand = async (_, args) => {
    script = args.at(-1) ?? '';
    return '';
  };
  await ask(
    fromSystemFolder(run, () => 'C:\\Windows\\System32'),
    'Get-NetRoute',
  );
  assert.ok(script.indexOf('PSModulePath = "$PSHOME') < script.indexOf('Get-NetRoute'));
});

test('an answer of one object is a list of one, and an empty one is none', () => {
  assert.deepEqual(listOf({ a: 1 }), [{ a: 1 }]);
  assert.deepEqual(listOf(undefined), []);
  assert.deepEqual(listOf([null, 'text', { a: 1 }]), [{ a: 1 }]);
});

test('resolvers are in the order of their adapters, without placeholders', () => {
  const answer = [
    { ServerAddresses: ['192.168.1.1', '192.168.1.2'] },
    { ServerAddresses: [] },
    { ServerAddresses: ['fec0:0:0:ffff::1', '2001:db8::1', '192.168.1.1'] },
    { ServerAddresses: null },
  ];
  assert.deepEqual(toAddresses(answer).map(formatIp), ['192.168.1.1', '192.168.1.2', '2001:db8::1']);
});

test('programs are run from the system folder by their full paths', async () => {
  const files: string[] = [];
  const machine = new FakeMachine(device);
  const fake = runWindows(machine);
  const platform = createWindowsPlatform({
    clock: new HandClock(),
    log: silentLogger,
    run: (file, args) => {
      files.push(file);
      return fake(file.includes('powershell') ? 'powershell' : 'netsh', args);
    },
    addon: () => ({ systemDirectory: () => 'C:\\Windows\\System32' }) as WintunAddon,
    programFolder: 'C:\\Program Files\\Nearfield',
  });
  machine.rules.set('nearfield nf1001', 'left by a killed daemon');
  await platform.cleanUp(1001);
  assert.deepEqual([...new Set(files)], ['C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe']);
  assert.equal(machine.rules.size, 0);
});

test('a firewall that refuses our rule is said, and does not keep the network down', async () => {
  const lines: LogLine[] = [];
  const log = createLogger({ wallMs: () => 0, sink: (line) => lines.push(line) });
  await new WindowsFirewall(async () => Promise.reject(new Error('governed by policy')), log).open(device);
  assert.deepEqual(
    lines.map(({ level }) => level),
    ['warn'],
  );
});

test('an answer that cannot be read is an error, not an empty table', async () => {
  await assert.rejects(new WindowsNetwork({ clock, run: async () => 'Zugriff verweigert' }).routes(), (error) =>
    isReason(error, 'daemon.command-failed'),
  );
});
