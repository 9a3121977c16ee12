import type { UserInfo } from '../../kube/index.ts';
import type { wire } from '../../protocol/index.ts';
import { notPermitted } from '../errors.ts';
import type { AccessReviewer, Question } from '../identity/access.ts';
import type { LiveConfig } from './live.ts';
import { refusalOf } from './policy.ts';

export interface AdmissionDeps {
  readonly access: Pick<AccessReviewer, 'may'>;
  readonly config: Pick<LiveConfig, 'current'>;
  /** Without it callers may be anybody, and nobody is asked about. */
  readonly requireToken: boolean;
}

/** A caller's workload, and what is wanted of it. */
export interface Attaching {
  readonly user: UserInfo | undefined;
  readonly namespace: string;
  readonly workload: string;
  /** Left out: its environment alone, or a connection from inside of its pods. */
  readonly spec?: wire.InterceptSpec | undefined;
}

/** Whether the cluster and its owner let somebody do something. */
export class Admission {
  readonly #deps: AdmissionDeps;

  constructor(deps: AdmissionDeps) {
    this.#deps = deps;
  }

  /** Errors: `manager.not-permitted`, those of the API server. */
  async checkAccess(user: UserInfo | undefined, questions: readonly Question[]): Promise<void> {
    if (!this.#deps.requireToken || !user) {
      return;
    }
    for (const question of questions) {
      if (!(await this.#deps.access.may(user, question))) {
        const { verb, resource, namespace, name } = question;
        throw notPermitted(user.username, verb, resource, namespace, name);
      }
    }
  }

  /** The owner's word alone. Errors: `manager.…-forbidden`, `manager.not-among-allowed`. */
  checkPolicy(attaching: Attaching): void {
    const refusal = refusalOf(this.#deps.config.current.policy, attaching);
    if (refusal) {
      throw refusal;
    }
  }

  /** Both. */
  async check(attaching: Attaching): Promise<void> {
    const { user, namespace, workload: name } = attaching;
    this.checkPolicy(attaching);
    await this.checkAccess(user, [{ verb: 'create', resource: 'attachments', namespace, name }]);
  }
}
