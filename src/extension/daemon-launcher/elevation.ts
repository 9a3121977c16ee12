/** Ways to run a program as root. Values only: which there are on a machine, and what each one's command line is. */

/** `direct`: we are root. `quiet`: sudo where no password is needed. `terminal`: sudo, where a person sees what asks. */
export type Way = 'direct' | 'quiet' | 'pkexec' | 'osascript' | 'run-as' | 'terminal';

/** What is asked for, by the setting `nearfield.elevation` and where in the editor we are. */
export type Consent = 'any' | 'sudo' | 'dialog';

export interface MachineFacts {
  /** `process.platform`. */
  readonly platform: string;
  readonly isRoot: boolean;
  /** The person sits elsewhere: a dialog would open on a screen that nobody looks at. */
  readonly isRemote: boolean;
  /** A desktop session that has a display, X11 or Wayland. */
  readonly hasDisplay: boolean;
  /** `/usr/bin/pkexec` is there. */
  readonly hasPkexec: boolean;
}

/** What became of a starter that has ended. Whether the daemon runs is another question: only the daemon answers it. */
export type Ending =
  /** The person closed the dialog: nothing else is asked. */
  | 'cancelled'
  /** The system's policy, or a wrong password, said no. */
  | 'refused'
  /** The program ran as root and said what is wrong: asking again would not help. */
  | 'failed'
  /** Anything else: the next way may do. */
  | 'ended';

export interface Command {
  readonly file: string;
  readonly args: readonly string[];
}

/** Ordered: what asks nothing comes first, what a person sees best next. Empty where there is no way. */
export function waysToElevate(facts: MachineFacts, consent: Consent): readonly Way[] {
  if (facts.isRoot) {
    return ['direct'];
  }
  const dialogs = dialogsOf(facts);
  if (facts.platform === 'win32') {
    // The daemon's pipes admit administrators only: an editor that has to ask could not use what it starts.
    return consent === 'dialog' ? dialogs : [];
  }
  switch (consent) {
    case 'sudo':
      return ['quiet', 'terminal'];
    case 'dialog':
      return ['quiet', ...dialogs];
    default:
      return ['quiet', ...dialogs, 'terminal'];
  }
}

function dialogsOf({ platform, isRemote, hasDisplay, hasPkexec }: MachineFacts): readonly Way[] {
  if (isRemote) {
    return [];
  }
  switch (platform) {
    case 'darwin':
      return ['osascript'];
    case 'win32':
      return ['run-as'];
    default:
      return hasDisplay && hasPkexec ? ['pkexec'] : [];
  }
}

/**
 * The command line of a way. `prompt` is shown where the way can show one. Errors: a `TypeError` for control characters,
 * which no path of ours has and no quoting is trusted with.
 */
export function commandOf(way: Way, [file = '', ...args]: readonly string[], prompt: string): Command {
  if ([file, ...args].some((each) => hasControls(each))) {
    throw new TypeError('a program that runs as root has no control characters in its arguments');
  }
  switch (way) {
    case 'direct':
      return { file, args };
    case 'quiet':
      return { file: 'sudo', args: ['-n', '--', file, ...args] };
    case 'terminal':
      return { file: '/usr/bin/sudo', args: ['-p', prompt, '--', file, ...args] };
    case 'pkexec':
      // Its own agent would ask on a terminal that the extension host has not.
      return { file: '/usr/bin/pkexec', args: ['--disable-internal-agent', file, ...args] };
    case 'osascript':
      return { file: '/usr/bin/osascript', args: ['-e', appleScript([file, ...args], prompt)] };
    case 'run-as':
      return { file: 'powershell.exe', args: ['-NoProfile', '-NonInteractive', '-Command', powerShell(file, args)] };
  }
}

const pkexecDismissed = 126;
const pkexecRefused = 127;
const runAsCancelled = 126;

/** Reads what a starter ended with; `stderr` in English where the way has only that. */
export function endingOf(way: Way, code: number | null, stderr: string): Ending {
  switch (way) {
    case 'pkexec':
      if (code === pkexecDismissed) {
        return 'cancelled';
      }
      // The same number says that there is no agent to ask, or no polkit: then a terminal can.
      if (code === pkexecRefused) {
        return /not authorized/i.test(stderr) ? 'refused' : 'ended';
      }
      return hasFailed(code, stderr) ? 'failed' : 'ended';
    case 'osascript':
      if (stderr.includes('(-128)')) {
        return 'cancelled';
      }
      return stderr.includes('(-60005)') ? 'refused' : 'ended';
    case 'run-as':
      return code === runAsCancelled ? 'cancelled' : 'ended';
    case 'quiet':
      return hasFailed(code, stderr) && !/^sudo:/m.test(stderr) ? 'failed' : 'ended';
    case 'direct':
      return hasFailed(code, stderr) ? 'failed' : 'ended';
    default:
      return 'ended';
  }
}

function hasFailed(code: number | null, stderr: string): boolean {
  return code !== 0 && stderr.trim() !== '';
}

/** What the daemon said last; its log lines are JSON and not for a person. */
export function lastSentence(stderr: string): string {
  const lines = stderr.split('\n').map((line) => line.trim());
  return lines.findLast((line) => line !== '' && !line.startsWith('{')) ?? '';
}

/**
 * Two languages in one another. For the shell, each word in single quotes; for AppleScript, the whole in double ones. The
 * program is left behind: `do shell script` would wait for its end.
 */
function appleScript(command: readonly string[], prompt: string): string {
  const shell = `${command.map(quoteForShell).join(' ')} >/dev/null 2>&1 &`;
  return `do shell script ${quoteForAppleScript(shell)} with prompt ${quoteForAppleScript(withoutControls(prompt))} with administrator privileges`;
}

function quoteForShell(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

function quoteForAppleScript(text: string): string {
  return `"${text.replace(/[\\"]/g, '\\$&')}"`;
}

/** The arguments are one text there, taken apart again by the program's runtime. A refused dialog ends with 126. */
function powerShell(file: string, args: readonly string[]): string {
  const line = args.map(quoteForWindows).join(' ');
  const start = `Start-Process -Verb RunAs -WindowStyle Hidden -FilePath ${quoteForPowerShell(file)} -ArgumentList ${quoteForPowerShell(line)}`;
  // The sentence is in the system's language, so it is the system that is asked for it.
  const cancelled = '([ComponentModel.Win32Exception]1223).Message';
  return `$ErrorActionPreference='Stop'; try { ${start} } catch { if ($_.Exception.Message.Contains(${cancelled})) { exit ${runAsCancelled} }; exit 1 }`;
}

/** PowerShell takes the typographic quotes for quotes as well. */
function quoteForPowerShell(text: string): string {
  return `'${text.replace(/['\u2018\u2019\u201a\u201b]/g, '$&$&')}'`;
}

/** As `CommandLineToArgvW` reads it: backslashes count only in front of a quote. */
function quoteForWindows(word: string): string {
  return `"${word.replace(/(\\*)"/g, '$1$1\\"').replace(/\\+$/, '$&$&')}"`;
}

function hasControls(text: string): boolean {
  return withoutControls(text) !== text;
}

function withoutControls(text: string): string {
  return [...text].filter((each) => each >= ' ' && each !== '\u007f').join('');
}
