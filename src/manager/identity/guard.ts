import { type Clock, type Logger, Scope } from '../../base/index.ts';
import type { Kube } from '../../kube/index.ts';
import type { ClusterView } from '../cluster/cluster.ts';
import { Admission } from '../policy/admission.ts';
import { AttachmentLeases } from '../policy/lease.ts';
import { LiveConfig } from '../policy/live.ts';
import type { Store } from '../state/store.ts';
import { AccessReviewer } from './access.ts';
import { Gate } from './gate.ts';
import { PodCallers } from './pods.ts';
import { TokenReviewer } from './tokens.ts';

export interface GuardDeps {
  readonly kube: Pick<Kube, 'reviewToken' | 'reviewAccess' | 'watch'>;
  readonly view: Pick<ClusterView, 'pods' | 'workloadOfPod'>;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  readonly requireToken: boolean;
  readonly managerNamespace: string;
}

/** Everything that decides who may do what, made of its parts. */
export interface Guard {
  readonly config: LiveConfig;
  readonly admission: Admission;
  readonly gate: Gate;
  readonly pods: PodCallers;
  /** Resolves when the owner's wishes are known. */
  ready(): Promise<void>;
  dispose(): Promise<void>;
}

export function createGuard(deps: GuardDeps): Guard {
  const { kube, view, store, clock, log, requireToken, managerNamespace } = deps;
  const scope = new Scope();
  const config = scope.own(new LiveConfig(kube, managerNamespace, log.child('policy')));
  const tokens = new TokenReviewer({ kube, clock, log: log.child('identity') });
  const admission = new Admission({ access: new AccessReviewer(kube, clock), config, requireToken });
  const pods = new PodCallers({ view, clock });
  const gate = new Gate({
    ...{ store, tokens, admission, pods, requireToken, managerNamespace, log: log.child('identity') },
  });
  scope.own(new AttachmentLeases({ store, config, admission, clock, log: log.child('policy') }));
  return {
    config,
    admission,
    gate,
    pods,
    ready: async () => {
      await Promise.all([config.ready(), tokens.probe()]);
    },
    dispose: () => scope.dispose(),
  };
}
