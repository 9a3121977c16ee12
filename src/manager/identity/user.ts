import { createContextKey } from '@connectrpc/connect';
import type { UserInfo } from '../../kube/index.ts';

/** Who makes this call; undefined when nobody said so. */
export const userKey = createContextKey<UserInfo | undefined>(undefined, { description: 'the user' });

/** A name that was given to somebody else meanwhile has another uid. */
export function isSameUser(a: UserInfo | undefined, b: UserInfo | undefined): boolean {
  return a?.username === b?.username && (a?.uid ?? '') === (b?.uid ?? '');
}

/** The token in the metadata of a call; undefined without one. */
export function bearerOf(authorization: string | null | undefined): string | undefined {
  return /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1];
}
