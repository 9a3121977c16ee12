import { NearfieldError } from '../base/index.ts';

export function daemonMissing(cause: unknown): NearfieldError {
  return new NearfieldError('the daemon is not part of this installation', {
    code: 'not_found',
    reason: 'extension.daemon-missing',
    hint: 'Install the extension for your platform again.',
    cause,
  });
}

export function daemonOfOtherVersion(version: string): NearfieldError {
  return new NearfieldError(`another window uses the daemon of version ${version}`, {
    code: 'failed_precondition',
    reason: 'extension.daemon-of-other-version',
    hint: 'Disconnect there, or reload that window.',
  });
}

export function daemonNotStarted(): NearfieldError {
  return new NearfieldError('the daemon could not be started', {
    code: 'permission_denied',
    reason: 'extension.daemon-not-started',
    hint: 'It needs root: enter your password in the terminal, or ask who administers this machine.',
  });
}

export function noService(): NearfieldError {
  return new NearfieldError('the daemon does not run as a service', {
    code: 'failed_precondition',
    reason: 'extension.no-service',
    hint: 'Install it as a service, or choose another value of the setting nearfield.elevation.',
  });
}

export function badLaunchAttribute(why: string): NearfieldError {
  return new NearfieldError(`the attribute "nearfield" of the launch configuration is not right: ${why}`, {
    code: 'invalid_argument',
    reason: 'extension.bad-launch-attribute',
    hint: 'Look at docs/launch-configurations.md.',
  });
}

export function noLaunchConfiguration(): NearfieldError {
  return new NearfieldError('there is no launch configuration to start', {
    code: 'failed_precondition',
    reason: 'extension.no-launch-configuration',
    hint: 'Open the folder of the service, and create a launch.json.',
  });
}
