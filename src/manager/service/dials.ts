import { toError } from '../../base/index.ts';
import { Sessions } from '../../protocol/index.ts';
import { callerKey, type ServiceRouter } from '../../protocol/transport/index.ts';
import { notItsPod } from '../errors.ts';
import type { Gate } from '../identity/gate.ts';
import type { Admission } from '../policy/admission.ts';
import type { Store } from '../state/store.ts';

export interface DialDeps {
  readonly store: Store;
  readonly gate: Pick<Gate, 'isAgent'>;
  readonly admission: Pick<Admission, 'check'>;
}

/** Our own service, for our agents: whether a client may use the network of a pod. */
export function dialRoutes({ store, gate, admission }: DialDeps): (router: ServiceRouter) => void {
  return (router) =>
    router.service(Sessions, {
      mayDial: async ({ agentSessionId, clientSessionId }, { values }) => {
        const agent = store.agents.get(agentSessionId);
        const client = store.clients.get(clientSessionId);
        if (!agent || !client) {
          return { allowed: false };
        }
        if (!gate.isAgent(values.get(callerKey), agent.info)) {
          throw notItsPod();
        }
        const { name: workload, namespace } = agent.info;
        try {
          await admission.check({ user: client.user, namespace, workload });
          return { allowed: true };
        } catch (thrown) {
          const error = toError(thrown);
          if (error.code === 'permission_denied') {
            return { allowed: false };
          }
          throw error;
        }
      },
    });
}
