import { createHash } from 'node:crypto';
import { type Clock, isReason, type Logger } from '../../base/index.ts';
import type { Identities, UserInfo } from '../../kube/index.ts';
import { tokenAudience } from '../../protocol/index.ts';
import { AnswerCache } from './cache.ts';

/** A token that was taken back is believed for this long at most. */
const believedMs = 60_000;
/** Who tries tokens costs the API server one question each; who has a wrong one asks again after this. */
const disbelievedMs = 10_000;
const limits = { maxKept: 2_000, maxAsked: 32 };
/** Longer than any that an issuer makes; HTTP servers refuse headers of this size. */
const maxTokenLength = 16_384;
/** A manager without the right asks again after this: somebody may have given it. */
const withoutRightMs = 300_000;

export interface TokenDeps {
  readonly kube: Pick<Identities, 'reviewToken'>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Whose a token is, by the API server's word (TokenReview). Tokens are kept as digests only. */
export class TokenReviewer {
  readonly #deps: TokenDeps;
  readonly #answers: AnswerCache<UserInfo | undefined>;
  #withoutRightUntilMs = 0;

  constructor(deps: TokenDeps) {
    this.#deps = deps;
    this.#answers = new AnswerCache(deps.clock, limits);
  }

  /** Whether the cluster lets us ask. */
  get isAvailable(): boolean {
    return this.#deps.clock.nowMs() >= this.#withoutRightUntilMs;
  }

  /** Finds out whether we may ask, before the first caller does. */
  async probe(): Promise<void> {
    await this.identify('none').catch(() => undefined);
  }

  /** Undefined: nobody's. Errors: `manager.busy`, those of the API server. */
  async identify(token: string): Promise<UserInfo | undefined> {
    if (token.length > maxTokenLength) {
      return undefined;
    }
    const { kube, clock, log } = this.#deps;
    const claims = readClaims(token);
    const leftMs =
      claims.expiresWallMs === undefined ? Number.POSITIVE_INFINITY : claims.expiresWallMs - clock.wallMs();
    return this.#answers.get(createHash('sha256').update(token).digest('base64'), async () => {
      try {
        const value = await kube.reviewToken(token, claims.isForUs ? [tokenAudience] : []);
        return { value, keepMs: value ? Math.max(0, Math.min(believedMs, leftMs)) : disbelievedMs };
      } catch (error) {
        if (isReason(error, 'kube.forbidden')) {
          this.#withoutRightUntilMs = clock.nowMs() + withoutRightMs;
          log.info('tokens cannot be reviewed: tokenreviews may not be created');
        }
        throw error;
      }
    });
  }
}

/**
 * What a token says of itself. Unverified: it only chooses how the API server is asked, and shortens how long its answer
 * is believed.
 */
export function readClaims(token: string): { readonly isForUs: boolean; readonly expiresWallMs: number | undefined } {
  try {
    const [, payload = ''] = token.split('.');
    const claims: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
    const { aud, exp } = (claims ?? {}) as { aud?: unknown; exp?: unknown };
    return {
      isForUs: aud === tokenAudience || (Array.isArray(aud) && aud.includes(tokenAudience)),
      expiresWallMs: typeof exp === 'number' ? exp * 1_000 : undefined,
    };
  } catch {
    return { isForUs: false, expiresWallMs: undefined };
  }
}
