import { toError } from '../../base/index.ts';
import type { Kube, KubeObject } from '../../kube/index.ts';
import { installConflict } from '../errors.ts';
import { diffLines, toLines } from './diff.ts';
import { checkOurs, findOptional, keyOf, readLive } from './live.ts';
import type { ApiObject } from './names.ts';
import { checkAlone } from './neighbours.ts';
import { managerObjects } from './objects.ts';
import type { InstallOptions } from './options.ts';

export interface PlanOptions {
  /** Takes fields over that others have set. */
  readonly takeOver?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface Change {
  readonly action: 'create' | 'change' | 'remove' | 'none';
  /** Kind, namespace and name. */
  readonly what: string;
  /** Unified, without headers. */
  readonly diff: readonly string[];
  readonly object: ApiObject;
}

/**
 * What installing would change, as the API server sees it: nothing is kept. Errors: `connector.foreign-manager`,
 * `connector.installed-by-helm`, `connector.managers-overlap`, `connector.install-conflict`, those of kube.
 */
export async function planInstall(
  kube: Kube,
  options: InstallOptions,
  { takeOver = false, signal }: PlanOptions = {},
): Promise<readonly Change[]> {
  const wanted = managerObjects(options);
  const live = await readLive(kube, wanted);
  await checkOurs(kube, options.namespace, live);
  await checkAlone(kube, options);
  const changes: Change[] = [];
  for (const [object, present] of live) {
    signal?.throwIfAborted();
    changes.push(await change(kube, object, present, { takeOver, signal }));
  }
  const keys = new Set(wanted.map(keyOf));
  const superfluous = (await findOptional(kube, options.namespace)).filter((object) => !keys.has(keyOf(object)));
  return [
    ...changes,
    ...superfluous.map((object) => ({
      action: 'remove' as const,
      what: keyOf(object),
      diff: diffLines(toLines(object), []),
      object,
    })),
  ];
}

async function change(
  kube: Kube,
  object: ApiObject,
  present: KubeObject | undefined,
  { takeOver = false, signal }: PlanOptions,
): Promise<Change> {
  const what = keyOf(object);
  if (!present) {
    return { action: 'create', what, diff: diffLines([], toLines(object)), object };
  }
  if (object.kind === 'Namespace') {
    // One that was there before belongs to whoever made it.
    return { action: 'none', what, diff: [], object };
  }
  const after = await applied(kube, object, { dryRun: true, force: takeOver, signal });
  const named = { apiVersion: object.apiVersion, kind: object.kind };
  const diff = diffLines(toLines({ ...named, ...present }), toLines({ ...named, ...after }));
  return { action: diff.length === 0 ? 'none' : 'change', what, diff, object };
}

/** Applies, and says whose a field is that somebody else has set. Errors: `connector.install-conflict`, those of kube. */
export async function applied(
  kube: Kube,
  object: ApiObject,
  options: { readonly dryRun?: boolean; readonly force: boolean; readonly signal?: AbortSignal | undefined },
): Promise<KubeObject> {
  try {
    return await kube.apply<KubeObject>(object, options);
  } catch (thrown) {
    const error = toError(thrown);
    throw error.reason === 'kube.status-409' ? installConflict(keyOf(object), error.message, error) : error;
  }
}

/** The changes as one text to read before agreeing. */
export function describeChanges(changes: readonly Change[]): string {
  const signs = { create: '+', change: '~', remove: '-', none: '=' } as const;
  const titles = changes.map(({ action, what }) => `${signs[action]} ${what}`);
  const bodies = changes
    .filter(({ action }) => action !== 'none')
    .map(({ action, what, diff }) => [`# ${action} ${what}`, ...diff].join('\n'));
  return `${[titles.join('\n'), ...bodies].join('\n\n')}\n`;
}
