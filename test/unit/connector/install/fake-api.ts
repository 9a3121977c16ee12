import { isDeepStrictEqual } from 'node:util';
import { apiFailure } from '../../../../src/kube/errors.ts';
import { type Kind, type Kube, type KubeObject, kindOf } from '../../../../src/kube/index.ts';

type Fields = Record<string, unknown>;
type Stored = KubeObject & { readonly apiVersion: string; readonly kind: string };

/** An API server in memory that merges what is applied, and remembers who set what at the top of `spec`. */
export class FakeApi {
  readonly objects = new Map<string, Stored>();
  readonly calls: string[] = [];
  /** `kind name` to a field of its spec that somebody else set. */
  readonly conflicts = new Map<string, string>();
  readonly kube: Kube;
  /** Called after each change, e.g. to play a controller. */
  onChanged: () => void = () => undefined;

  constructor() {
    this.kube = {
      get: async (kind: Kind, name: string, namespace?: string) => this.objects.get(keyOf(kind.kind, name, namespace)),
      list: async (kind: Kind, options: { namespace?: string; labelSelector?: string } = {}) =>
        [...this.objects.values()]
          .filter((each) => each.kind === kind.kind)
          .filter(({ metadata }) => !options.namespace || metadata?.namespace === options.namespace)
          .filter(({ metadata }) => matches(metadata?.labels ?? {}, options.labelSelector))
          // The API server leaves the kind out of what it lists.
          .map(({ kind: _, apiVersion: _version, ...rest }) => rest),
      apply: async (object: Stored, options: { dryRun?: boolean; force?: boolean } = {}) =>
        this.#apply(object, options),
      remove: async (kind: Kind, name: string, namespace?: string) => {
        this.calls.push(`remove ${kind.kind} ${name}`);
        this.objects.delete(keyOf(kind.kind, name, namespace));
        this.onChanged();
      },
    } as unknown as Kube;
  }

  put(object: Stored): void {
    this.objects.set(keyOf(object.kind, object.metadata?.name ?? '', object.metadata?.namespace), object);
  }

  /** Kind and name of everything there is. */
  get names(): string[] {
    return [...this.objects.keys()].sort();
  }

  #apply(object: Stored, { dryRun, force }: { dryRun?: boolean; force?: boolean }): Stored {
    const name = object.metadata?.name ?? '';
    const conflict = this.conflicts.get(`${object.kind} ${name}`);
    if (conflict && !force) {
      throw apiFailure(409, `Apply failed with 1 conflict: conflict with "kubectl-edit": .spec.${conflict}`);
    }
    const key = keyOf(object.kind, name, object.metadata?.namespace);
    const merged = merge(this.objects.get(key) ?? {}, object) as unknown as Stored;
    if (!dryRun && !isDeepStrictEqual(merged, this.objects.get(key))) {
      if (!kindOf(object)) {
        throw apiFailure(404, `no kind ${object.kind}`);
      }
      this.calls.push(`apply ${object.kind} ${name}`);
      this.objects.set(key, merged);
      this.onChanged();
    }
    return merged;
  }
}

const keyOf = (kind: string, name: string, namespace?: string): string =>
  `${kind} ${namespace && kind !== 'Namespace' ? `${namespace}/` : ''}${name}`;

function matches(labels: Readonly<Record<string, string>>, selector = ''): boolean {
  return selector
    .split(',')
    .filter(Boolean)
    .every((each) => labels[each.split('=')[0] ?? ''] === each.split('=')[1]);
}

function merge(before: object, after: object): Fields {
  const result: Fields = { ...before };
  for (const [name, value] of Object.entries(after)) {
    const old = result[name];
    const isNested = [old, value].every((each) => typeof each === 'object' && each !== null && !Array.isArray(each));
    result[name] = isNested ? merge(old as object, value) : value;
  }
  return result;
}
