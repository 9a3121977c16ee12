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
