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
    hint: 'It needs root: enter your password where you are asked, or ask who administers this machine.',
  });
}

/** `sentence`: what it said before it ended. */
export function daemonFailed(sentence: string): NearfieldError {
  return new NearfieldError(sentence.replace(/\.$/, ''), {
    code: 'failed_precondition',
    reason: 'extension.daemon-failed',
  });
}

export function elevationRefused(): NearfieldError {
  return new NearfieldError('this machine did not let the daemon run as root', {
    code: 'permission_denied',
    reason: 'extension.elevation-refused',
    hint: 'Ask who administers it, or set nearfield.elevation to none.',
  });
}

export function noServiceManager(): NearfieldError {
  return new NearfieldError('nothing on this machine can run the daemon as a service', {
    code: 'failed_precondition',
    reason: 'extension.no-service-manager',
    hint: 'There is no systemd here. Connect starts the daemon for each session instead.',
  });
}

export function noServiceCopy(): NearfieldError {
  return new NearfieldError('this daemon was not packaged and cannot become a service', {
    code: 'failed_precondition',
    reason: 'extension.no-packaged-daemon',
    hint: 'Run npm run package, or install the extension.',
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
