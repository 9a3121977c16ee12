import type { Clock } from '../../base/index.ts';
import type { Identities, UserInfo } from '../../kube/index.ts';
import { AnswerCache } from './cache.ts';

/** Rights that nobody but us asks about: owners grant them by ordinary roles. docs/security.md has the table. */
export const accessGroup = 'nearfield.dev';

export interface Question {
  readonly verb: 'create' | 'delete' | 'update';
  readonly resource: 'connections' | 'attachments' | 'loglevels';
  readonly namespace: string;
  /** The workload: a role may name some. */
  readonly name?: string | undefined;
}

/** A right that was taken away is believed for this long at most. */
const allowedMs = 60_000;
const deniedMs = 5_000;
const limits = { maxKept: 10_000, maxAsked: 64 };

/** What somebody may do, by the API server's word (SubjectAccessReview). */
export class AccessReviewer {
  readonly #kube: Pick<Identities, 'reviewAccess'>;
  readonly #answers: AnswerCache<boolean>;

  constructor(kube: Pick<Identities, 'reviewAccess'>, clock: Clock) {
    this.#kube = kube;
    this.#answers = new AnswerCache(clock, limits);
  }

  /** Errors: `manager.busy`, those of the API server. */
  may(user: UserInfo, { verb, resource, namespace, name }: Question): Promise<boolean> {
    const { username, uid, groups, extra } = user;
    const key = JSON.stringify([username, uid, groups, extra, verb, resource, namespace, name]);
    return this.#answers.get(key, async () => {
      const value = await this.#kube.reviewAccess(user, { group: accessGroup, verb, resource, namespace, name });
      return { value, keepMs: value ? allowedMs : deniedMs };
    });
  }
}
