import { isReason } from '../base/index.ts';
import { kinds, pathOf } from './kind.ts';
import type { Requester } from './request.ts';

/** Who somebody is to the API server, as a TokenReview says it. */
export interface UserInfo {
  readonly username: string;
  readonly uid?: string;
  readonly groups?: readonly string[];
  readonly extra?: Readonly<Record<string, readonly string[]>>;
}

/** What a SubjectAccessReview is asked about. */
export interface ResourceAttributes {
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  readonly namespace: string;
  readonly name?: string | undefined;
}

/** A token that only `audience` takes, for as short a time as the API server gives. */
export interface TokenWish {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly audience: string;
  readonly seconds: number;
}

export interface IssuedToken {
  readonly token: string;
  readonly expiresWallMs: number;
}

/** Whose credentials are whose: tokens, and what the API server says of them. */
export interface Identities {
  /** What the kubeconfig authenticates with, where that is a token; undefined for client certificates. */
  bearerToken(): Promise<string | undefined>;
  requestToken(wish: TokenWish): Promise<IssuedToken>;
  /** Undefined: it is nobody's, or not meant for one of `audiences`. None of these means the API server's own. */
  reviewToken(token: string, audiences: readonly string[]): Promise<UserInfo | undefined>;
  reviewAccess(user: UserInfo, attributes: ResourceAttributes): Promise<boolean>;
}

interface TokenReview {
  readonly status?: {
    readonly authenticated?: boolean;
    readonly audiences?: readonly string[];
    readonly user?: Partial<UserInfo>;
  };
}

export function createIdentities(requester: Requester): Identities {
  const post = <T>(path: string, body: unknown): Promise<T> => requester.json<T>({ method: 'POST', path, body });
  return {
    bearerToken: async () => {
      const headers = (await requester.options()).headers as Readonly<Record<string, unknown>> | undefined;
      const [, value] = Object.entries(headers ?? {}).find(([name]) => name.toLowerCase() === 'authorization') ?? [];
      return /^Bearer (\S+)$/i.exec(String(value ?? ''))?.[1];
    },
    requestToken: async ({ namespace, serviceAccount, audience, seconds }) => {
      const { status } = await post<{ status: { token: string; expirationTimestamp: string } }>(
        `${pathOf(kinds.serviceAccount, namespace, serviceAccount)}/token`,
        {
          apiVersion: 'authentication.k8s.io/v1',
          kind: 'TokenRequest',
          spec: { audiences: [audience], expirationSeconds: seconds },
        },
      );
      return { token: status.token, expiresWallMs: Date.parse(status.expirationTimestamp) };
    },
    reviewToken: async (token, audiences) => {
      const { status } = await post<TokenReview>('/apis/authentication.k8s.io/v1/tokenreviews', {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenReview',
        spec: { token, ...(audiences.length > 0 ? { audiences } : {}) },
      }).catch((error: unknown) => {
        // What is no token at all may be refused as a whole.
        if (isReason(error, 'kube.status-400') || isReason(error, 'kube.status-422')) {
          return { status: {} } as TokenReview;
        }
        throw error;
      });
      const user = status?.user;
      // An API server that knows no audiences leaves them out of its answer: then it was not asked what we asked.
      const isMeant = audiences.length === 0 || audiences.some((each) => status?.audiences?.includes(each));
      return status?.authenticated === true && user?.username && isMeant
        ? { ...user, username: user.username }
        : undefined;
    },
    reviewAccess: async ({ username, uid, groups, extra }, attributes) => {
      const { status } = await post<{ status?: { allowed?: boolean } }>(
        '/apis/authorization.k8s.io/v1/subjectaccessreviews',
        {
          apiVersion: 'authorization.k8s.io/v1',
          kind: 'SubjectAccessReview',
          spec: { user: username, uid, groups, extra, resourceAttributes: attributes },
        },
      );
      return status?.allowed === true;
    },
  };
}
