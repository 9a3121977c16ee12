import { NearfieldError } from '../base/index.ts';

export function badConfiguration(why: string): NearfieldError {
  return new NearfieldError(`the agent's configuration is not right: ${why}`, {
    code: 'invalid_argument',
    reason: 'agent.bad-configuration',
    hint: 'Let the traffic-manager inject the pod again: restart the workload.',
  });
}

/** Never shown: tells the two ends of one relay that the other broke off. */
export function peerReset(): NearfieldError {
  return new NearfieldError('the other end of the connection broke off', {
    code: 'aborted',
    reason: 'agent.peer-reset',
  });
}

/** The three of the file server are answers of its protocol, and no person sees them. */
export function notThere(): NearfieldError {
  return new NearfieldError('there is no such file in the volumes', {
    code: 'not_found',
    reason: 'agent.file-not-there',
  });
}

export function readOnlyPlace(): NearfieldError {
  return new NearfieldError('the volume is shared for reading only', {
    code: 'permission_denied',
    reason: 'agent.file-read-only',
  });
}

export function badFileRequest(message: string): NearfieldError {
  return new NearfieldError(message, { code: 'invalid_argument', reason: 'agent.file-bad-request' });
}
