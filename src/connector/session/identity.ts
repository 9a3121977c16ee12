import { type Clock, type Logger, toError } from '../../base/index.ts';
import type { IssuedToken, Kube } from '../../kube/index.ts';
import { metadataOf, tokenAudience } from '../../protocol/index.ts';
import { badRequest, tokenMissing, tokenNotIssued } from '../errors.ts';

export interface IdentityDeps {
  readonly kube: Pick<Kube, 'bearerToken' | 'requestToken'>;
  readonly clock: Clock;
  readonly log: Logger;
  /** `namespace/name`: whose tokens we ask for, where the kubeconfig has none of its own. */
  readonly serviceAccount: string | undefined;
}

/** What the manager says of tokens, before it gets one. */
export interface IdentityTerms {
  readonly authSupported: boolean;
  readonly authRequired: boolean;
}

/** The shortest that the API server gives. */
const tokenSeconds = 600;
/** Renewed when this much is left of it. */
const renewMs = 240_000;

interface Account {
  readonly namespace: string;
  readonly serviceAccount: string;
}

/**
 * Who we are to the traffic-manager. Of what we can show it gets the least: a token that nobody else takes where one can be
 * had, and the kubeconfig's own only where it demands one.
 */
export class Identity {
  readonly #deps: IdentityDeps;
  #account: Account | undefined;
  #mayShowOwn = false;
  #issued: IssuedToken | undefined;

  constructor(deps: IdentityDeps) {
    this.#deps = deps;
  }

  /** Decides what is shown. Errors: `connector.token-missing`, `connector.token-not-issued`, `connector.bad-request`. */
  async agree({ authSupported, authRequired }: IdentityTerms): Promise<void> {
    const { kube, log, serviceAccount } = this.#deps;
    if (!authSupported) {
      return;
    }
    if (serviceAccount) {
      this.#account = readAccount(serviceAccount);
      await this.#renew(this.#account);
      return;
    }
    const own = await kube.bearerToken();
    if (own === undefined) {
      if (authRequired) {
        throw tokenMissing();
      }
      return;
    }
    const account = accountOf(own);
    if (account) {
      try {
        await this.#renew(account);
        this.#account = account;
        return;
      } catch (error) {
        log.debug('there is no token for the traffic-manager alone', { error: toError(error) });
      }
    }
    this.#mayShowOwn = authRequired;
  }

  /** The metadata of a call. Never logged. */
  readonly authorization = async (): Promise<string | undefined> => {
    const token = this.#account ? await this.#current(this.#account) : this.#mayShowOwn ? await this.#own() : undefined;
    return token === undefined ? undefined : metadataOf(token);
  };

  get isShown(): boolean {
    return this.#account !== undefined || this.#mayShowOwn;
  }

  /** Each time anew: the kubeconfig's program renews it. */
  #own(): Promise<string | undefined> {
    return this.#deps.kube.bearerToken();
  }

  async #current(account: Account): Promise<string> {
    const { clock, log } = this.#deps;
    const issued = this.#issued;
    if (issued && issued.expiresWallMs - clock.wallMs() > renewMs) {
      return issued.token;
    }
    try {
      return await this.#renew(account);
    } catch (error) {
      if (issued && issued.expiresWallMs > clock.wallMs()) {
        log.debug('the token could not be renewed yet', { error: toError(error) });
        return issued.token;
      }
      throw error;
    }
  }

  async #renew(account: Account): Promise<string> {
    try {
      this.#issued = await this.#deps.kube.requestToken({ ...account, audience: tokenAudience, seconds: tokenSeconds });
      return this.#issued.token;
    } catch (error) {
      throw tokenNotIssued(`${account.namespace}/${account.serviceAccount}`, error);
    }
  }
}

function readAccount(text: string): Account {
  const [, namespace, serviceAccount] = /^([a-z0-9][-a-z0-9]*)\/([a-z0-9][-.a-z0-9]*)$/.exec(text) ?? [];
  if (!namespace || !serviceAccount) {
    throw badRequest(`${text.slice(0, 100)} is no service account, as developers/ann is one`);
  }
  return { namespace, serviceAccount };
}

/** Whose token it is, where it says that it is one of a service account. */
export function accountOf(token: string): Account | undefined {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'));
    const { sub } = (claims ?? {}) as { sub?: unknown };
    const [, namespace, serviceAccount] =
      /^system:serviceaccount:([^:]+):([^:]+)$/.exec(typeof sub === 'string' ? sub : '') ?? [];
    return namespace && serviceAccount ? { namespace, serviceAccount } : undefined;
  } catch {
    return undefined;
  }
}
