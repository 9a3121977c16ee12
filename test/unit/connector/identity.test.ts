import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NearfieldError, silentLogger } from '../../../src/base/index.ts';
import { Identity } from '../../../src/connector/session/identity.ts';
import type { TokenWish } from '../../../src/kube/index.ts';
import { HandClock } from '../manager/hand-clock.ts';

const jwt = (claims: object): string => `h.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.s`;
const annsToken = jwt({ sub: 'system:serviceaccount:dev:ann' });
const forbidden = new NearfieldError('no', { code: 'permission_denied', reason: 'kube.forbidden' });

interface Given {
  readonly own?: string;
  readonly serviceAccount?: string;
  readonly issues?: boolean;
}

function identity({ own, serviceAccount, issues = true }: Given) {
  const clock = new HandClock();
  const wishes: TokenWish[] = [];
  const kube = {
    bearerToken: async () => own,
    requestToken: async (wish: TokenWish) => {
      wishes.push(wish);
      if (!issues) {
        throw forbidden;
      }
      return { token: `issued ${wishes.length}`, expiresWallMs: clock.wallMs() + wish.seconds * 1_000 };
    },
  };
  return { made: new Identity({ kube, clock, log: silentLogger, serviceAccount }), wishes, clock };
}

const none = { authSupported: false, authRequired: false };
const taken = { authSupported: true, authRequired: false };
const required = { authSupported: true, authRequired: true };

const cases: readonly (readonly [string, Given, typeof none, string | undefined])[] = [
  ['an older manager gets nothing', { own: annsToken, serviceAccount: 'dev/ann' }, none, undefined],
  ['the kubeconfig’s own token stays here while nobody demands it', { own: 'oidc' }, taken, undefined],
  ['it is shown where one is demanded', { own: 'oidc' }, required, 'Bearer oidc'],
  ['a service account shows one that only the manager takes', { own: annsToken }, taken, 'Bearer issued 1'],
  ['also where one is demanded', { own: annsToken }, required, 'Bearer issued 1'],
  [
    'without that right it shows its own, if need be',
    { own: annsToken, issues: false },
    required,
    `Bearer ${annsToken}`,
  ],
  ['and nothing otherwise', { own: annsToken, issues: false }, taken, undefined],
  ['a certificate is nobody', {}, taken, undefined],
  ['a certificate comes as the account that is named', { serviceAccount: 'dev/ann' }, required, 'Bearer issued 1'],
];
for (const [what, given, terms, shown] of cases) {
  test(`identity: ${what}`, async () => {
    const { made } = identity(given);
    await made.agree(terms);
    assert.equal(await made.authorization(), shown);
    assert.equal(made.isShown, shown !== undefined);
  });
}

test('a certificate is told what to do where a token is demanded', async () => {
  await assert.rejects(identity({}).made.agree(required), { reason: 'connector.token-missing' });
  await assert.rejects(identity({ serviceAccount: 'dev/ann', issues: false }).made.agree(required), {
    reason: 'connector.token-not-issued',
  });
  await assert.rejects(identity({ serviceAccount: 'no name' }).made.agree(required), {
    reason: 'connector.bad-request',
  });
});

test('a token is asked for with its audience, and again before it ends', async () => {
  const { made, wishes, clock } = identity({ serviceAccount: 'dev/ann' });
  await made.agree(required);
  assert.deepEqual(wishes, [{ namespace: 'dev', serviceAccount: 'ann', audience: 'nearfield.dev', seconds: 600 }]);
  clock.advance(300_000);
  assert.equal(await made.authorization(), 'Bearer issued 1');
  clock.advance(100_000);
  assert.equal(await made.authorization(), 'Bearer issued 2');
});
