import type { NearfieldError } from '../../base/index.ts';
import type { UserInfo } from '../../kube/index.ts';
import { hasFilters, type InterceptPolicy, type wire } from '../../protocol/index.ts';
import { notAmongAllowed, replaceForbidden, wholePortForbidden } from '../errors.ts';

/** What somebody wants to attach to. */
export interface Wish {
  readonly user: UserInfo | undefined;
  readonly namespace: string;
  readonly workload: string;
  /** Left out: the environment alone. */
  readonly spec?: wire.InterceptSpec | undefined;
}

/** Why the owner does not allow it; undefined when they do. Pure. */
export function refusalOf(policy: InterceptPolicy, wish: Wish): NearfieldError | undefined {
  const { user, namespace, workload, spec } = wish;
  if (spec?.replace && !policy.allowReplace) {
    return replaceForbidden();
  }
  // Replacing a container takes all of its ports.
  if (spec && !policy.allowGlobalIntercepts && !spec.wiretap && (spec.replace || !hasFilters(spec))) {
    return wholePortForbidden();
  }
  const isAmong = policy.allowed.some(
    (rule) => isMeant(rule, user) && matches(rule.namespaces, namespace) && matches(rule.workloads, workload),
  );
  return policy.allowed.length === 0 || isAmong
    ? undefined
    : notAmongAllowed(user?.username ?? 'a caller without a token', workload, namespace);
}

type Rule = InterceptPolicy['allowed'][number];

function isMeant({ users, groups }: Rule, user: UserInfo | undefined): boolean {
  if (!users && !groups) {
    return true;
  }
  return (
    user !== undefined &&
    (users?.includes(user.username) === true || groups?.some((group) => user.groups?.includes(group)) === true)
  );
}

const matches = (patterns: readonly string[] | undefined, name: string): boolean =>
  !patterns || patterns.some((pattern) => matchesOne(pattern, name));

/** `*` stands for anything. Linear: an owner's pattern is tried on whatever a caller names. */
function matchesOne(pattern: string, name: string): boolean {
  const [first = '', ...rest] = pattern.split('*');
  const last = rest.pop();
  if (last === undefined) {
    return name === pattern;
  }
  if (!name.startsWith(first) || name.length < first.length + last.length || !name.endsWith(last)) {
    return false;
  }
  let at = first.length;
  for (const part of rest) {
    const found = name.indexOf(part, at);
    if (found < 0 || found + part.length > name.length - last.length) {
      return false;
    }
    at = found + part.length;
  }
  return true;
}
