import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

/** What a program must show. The listeners are on loopback, which every user of the machine can reach. */
export interface Credentials {
  readonly user: string;
  readonly password: string;
}

const passwordBytes = 18;

/** New for each session; of characters that need no quoting in a URL or a shell. */
export function createCredentials(): Credentials {
  return { user: 'nearfield', password: randomBytes(passwordBytes).toString('base64url') };
}

/** In time that does not depend on where the two differ. */
export function isAccepted(wanted: Credentials, shown: Credentials): boolean {
  const digest = ({ user, password }: Credentials): Buffer =>
    createHash('sha256').update(`${user.length} ${user} ${password}`).digest();
  return timingSafeEqual(digest(wanted), digest(shown));
}

/** `user:password@` for a proxy's URL, or nothing. */
export function userInfoOf(credentials: Credentials | undefined): string {
  return credentials ? `${encodeURIComponent(credentials.user)}:${encodeURIComponent(credentials.password)}@` : '';
}
