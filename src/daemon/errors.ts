import { type ErrorCode, NearfieldError } from '../base/index.ts';

function failure(code: ErrorCode, reason: string, message: string, hint?: string, cause?: unknown): NearfieldError {
  return new NearfieldError(message, { code, reason, ...(hint === undefined ? {} : { hint }), cause });
}

export const deviceFailed = (
  cause: unknown,
  hint = 'Load the kernel module: modprobe tun. In a container, pass /dev/net/tun.',
): NearfieldError =>
  failure('failed_precondition', 'daemon.device-failed', 'the TUN device could not be opened', hint, cause);

export const unsupportedPlatform = (platform: string): NearfieldError =>
  failure(
    'unimplemented',
    'daemon.unsupported-platform',
    `the daemon does not run on ${platform}`,
    'Use it on Linux, macOS or Windows, or connect without root.',
  );

export const commandFailed = (command: string, output: string): NearfieldError =>
  failure('internal', 'daemon.command-failed', `${command} failed: ${output.trim().slice(0, 300)}`);

export const forbiddenSubnet = (subnet: string, why: string): NearfieldError =>
  failure(
    'invalid_argument',
    'daemon.forbidden-subnet',
    `${subnet} cannot be routed: ${why}`,
    'Take it out of the subnets.',
  );

export const subnetConflict = (subnet: string, route: string): NearfieldError =>
  failure(
    'failed_precondition',
    'daemon.subnet-conflict',
    `${subnet} overlaps with the existing route ${route}`,
    'End what made that route (a VPN, another tool). Or set nearfield.network.translateConflicts (--translate-conflicts) to reach the cluster under other addresses, or nearfield.network.allowConflicting (--allow-conflicting) to take the subnet over.',
  );

export const windowConflict = (subnet: string): NearfieldError =>
  failure(
    'failed_precondition',
    'daemon.window-conflict',
    `another window of yours is connected to a different cluster that has ${subnet} too`,
    'Disconnect there first.',
  );

export const upstreamFailed = (why: string): NearfieldError =>
  failure('unavailable', 'daemon.upstream-failed', `the resolver of this machine gave no answer: ${why}`);

export const inUse = (): NearfieldError =>
  failure(
    'failed_precondition',
    'daemon.in-use',
    'another window of yours is connected',
    'Disconnect there first, or leave the daemon running.',
  );

export const badRequest = (why: string): NearfieldError => failure('invalid_argument', 'daemon.bad-request', why);

export const notAttached = (): NearfieldError => failure('failed_precondition', 'daemon.not-attached', 'attach first');

export const alreadyRunning = (): NearfieldError =>
  failure('already_exists', 'daemon.already-running', 'a daemon of this user runs already');

export const socketsLost = (): NearfieldError =>
  failure(
    'unavailable',
    'daemon.sockets-lost',
    'the clean-up after another daemon took the sockets away',
    'Start the daemon again.',
  );

export const digestMismatch = (): NearfieldError =>
  failure(
    'failed_precondition',
    'daemon.digest-mismatch',
    'this daemon is not the one that the extension was built with',
    'Install the extension again.',
  );

export const unsafeFolder = (folder: string): NearfieldError =>
  failure(
    'failed_precondition',
    'daemon.unsafe-folder',
    `${folder} can be changed by others than root`,
    `Make it root's alone: sudo chown root:root ${folder} && sudo chmod go-w ${folder}`,
  );

export const notStarted = (cause?: unknown): NearfieldError =>
  failure('unavailable', 'daemon.not-started', 'the daemon ended before it was ready', undefined, cause);

export const noServiceManager = (name: string): NearfieldError =>
  failure(
    'failed_precondition',
    'daemon.no-service-manager',
    `no ${name} runs here`,
    'Start the daemon for each session instead.',
  );

export const resolverFailed = (cause: unknown): NearfieldError =>
  failure(
    'failed_precondition',
    'daemon.resolver-failed',
    `the machine's programs could not be led to our name server: ${cause instanceof Error ? cause.message : String(cause)}`,
    'Install nftables (the program nft), or use systemd-resolved.',
    cause,
  );
