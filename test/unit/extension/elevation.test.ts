import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import {
  commandOf,
  endingOf,
  lastSentence,
  type MachineFacts,
  waysToElevate,
} from '../../../src/extension/daemon-launcher/elevation.ts';
import { matchesGolden } from '../../support/golden.ts';

const desktop: MachineFacts = { platform: 'linux', isRoot: false, isRemote: false, hasDisplay: true, hasPkexec: true };
const nasty = [
  '/Applications/My "Code" $HOME/`id`/it\'s\\here',
  '--digest',
  "'; rm -rf ~; '",
  '\\"',
  '$(id)',
  '’; id; ‘',
  'ends\\',
];

test('on a desktop, what asks nothing is tried first, then the dialog, then the terminal', () => {
  assert.deepEqual(waysToElevate(desktop, 'any'), ['quiet', 'pkexec', 'terminal']);
  assert.deepEqual(waysToElevate({ ...desktop, platform: 'darwin' }, 'any'), ['quiet', 'osascript', 'terminal']);
});

test('no dialog opens where nobody would see it', () => {
  for (const change of [{ isRemote: true }, { hasDisplay: false }, { hasPkexec: false }]) {
    assert.deepEqual(waysToElevate({ ...desktop, ...change }, 'any'), ['quiet', 'terminal']);
    assert.deepEqual(waysToElevate({ ...desktop, ...change }, 'dialog'), ['quiet']);
  }
  assert.deepEqual(waysToElevate({ ...desktop, platform: 'darwin', isRemote: true }, 'any'), ['quiet', 'terminal']);
});

test('the setting narrows it to sudo or to the dialog', () => {
  assert.deepEqual(waysToElevate(desktop, 'sudo'), ['quiet', 'terminal']);
  assert.deepEqual(waysToElevate(desktop, 'dialog'), ['quiet', 'pkexec']);
});

test('root needs nobody’s consent', () => {
  for (const consent of ['any', 'sudo', 'dialog'] as const) {
    assert.deepEqual(waysToElevate({ ...desktop, isRoot: true }, consent), ['direct']);
  }
});

test('Windows asks only when it is told to: the editor could not use what it starts', () => {
  assert.deepEqual(waysToElevate({ ...desktop, platform: 'win32' }, 'any'), []);
  assert.deepEqual(waysToElevate({ ...desktop, platform: 'win32' }, 'dialog'), ['run-as']);
});

test('each way quotes spaces, quotes, backslashes and dollar signs', () => {
  const lines = (['quiet', 'terminal', 'pkexec', 'osascript', 'run-as'] as const).map((way) => {
    const { file, args } = commandOf(way, nasty, 'Nearfield "asks" \\ you');
    return `${way}\n${[file, ...args].map((each) => `  ${each}`).join('\n')}\n`;
  });
  matchesGolden('elevation.txt', lines.join('\n'));
});

test('the shell that macOS runs gets the very words', () => {
  const [, script = ''] = commandOf('osascript', ['printf', '%s\\n', ...nasty], 'asks').args;
  // What AppleScript makes of its text: a backslash takes the next character as it is.
  const text = /^do shell script "((?:[^"\\]|\\.)*)" with prompt "asks" with administrator privileges$/s.exec(
    script,
  )?.[1];
  const shell = (text ?? '').replace(/\\(.)/gs, '$1').replace(/ >\/dev\/null 2>&1 &$/, '');
  assert.deepEqual(execFileSync('/bin/sh', ['-c', shell], { encoding: 'utf8' }).trimEnd().split('\n'), nasty);
});

test('control characters are refused, not quoted', () => {
  for (const bad of ['a\nb', 'a\u0000b', '\u001b[2J', 'a\u007f']) {
    assert.throws(() => commandOf('osascript', ['/bin/true', bad], ''), TypeError);
  }
});

test('a dialog that was closed is told from one that failed', () => {
  assert.equal(endingOf('pkexec', 126, 'Error executing command as another user: Request dismissed'), 'cancelled');
  assert.equal(endingOf('pkexec', 127, 'Error executing command as another user: Not authorized'), 'refused');
  assert.equal(
    endingOf('pkexec', 127, 'Error executing command as another user: No authentication agent found.'),
    'ended',
  );
  assert.equal(endingOf('osascript', 1, '0:120: execution error: User canceled. (-128)'), 'cancelled');
  assert.equal(
    endingOf('osascript', 1, 'execution error: The administrator password was incorrect. (-60005)'),
    'refused',
  );
  assert.equal(endingOf('run-as', 126, ''), 'cancelled');
  assert.equal(endingOf('terminal', 126, '(-128)'), 'ended');
});

test('what the daemon says is told from what sudo says', () => {
  const log = '{"level":"info"}\n';
  for (const way of ['direct', 'quiet', 'pkexec'] as const) {
    assert.equal(endingOf(way, 1, `${log}no systemd runs here. Start it.\n${log}`), 'failed');
    assert.equal(endingOf(way, 0, log), 'ended');
  }
  assert.equal(endingOf('quiet', 1, 'sudo: a password is required\n'), 'ended');
  assert.equal(endingOf('quiet', null, ''), 'ended');
  assert.equal(lastSentence(`${log}no systemd runs here. Start it.\n${log}`), 'no systemd runs here. Start it.');
});
