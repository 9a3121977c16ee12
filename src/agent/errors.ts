import { NearfieldError } from '../base/index.ts';

export function badConfiguration(why: string): NearfieldError {
  return new NearfieldError(`the agent's configuration is not right: ${why}`, {
    code: 'invalid_argument',
    reason: 'agent.bad-configuration',
    hint: 'Let the traffic-manager inject the pod again: restart the workload.',
  });
}
