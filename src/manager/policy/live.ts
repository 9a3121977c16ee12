import * as v from 'valibot';
import { parse } from 'yaml';
import { type Disposable, Emitter, type Logger, toError } from '../../base/index.ts';
import { type Informer, type Kube, kinds, type V1ConfigMap } from '../../kube/index.ts';
import {
  type ClientConfig,
  clientConfigKey,
  clientConfigSchema,
  configMapName,
  type InterceptPolicy,
  interceptPolicySchema,
  policyKey,
} from '../../protocol/index.ts';
import { badPolicy } from '../errors.ts';

export interface OwnerWishes {
  readonly policy: InterceptPolicy;
  /** As the owner wrote it: stock clients read more of it than we do. */
  readonly clientYaml: string;
  readonly client: ClientConfig;
}

/** What is said until the owner says something. */
const silent: OwnerWishes = { policy: v.parse(interceptPolicySchema, {}), clientYaml: '', client: {} };
/** A rule that nobody meets: of a policy that cannot be read nothing is guessed. */
const nobody: InterceptPolicy = { ...silent.policy, allowed: [{ users: [] }] };
const maxTextLength = 262_144;

/** What the owner of the cluster wishes, from the config map `traffic-manager`: a change of it needs no restart. */
export class LiveConfig implements Disposable {
  readonly #log: Logger;
  readonly #maps: Informer<V1ConfigMap>;
  readonly #changed = new Emitter<void>();
  readonly onChanged = this.#changed.event;
  #wishes: OwnerWishes = silent;

  constructor(kube: Pick<Kube, 'watch'>, namespace: string, log: Logger) {
    this.#log = log;
    this.#maps = kube.watch<V1ConfigMap>(kinds.configMap, {
      namespace,
      fieldSelector: `metadata.name=${configMapName}`,
      log,
    });
    this.#maps.onItemChanged(() => this.#read());
  }

  get current(): OwnerWishes {
    return this.#wishes;
  }

  /** The first answer; an installation of before has no such object, and no right to it. */
  async ready(): Promise<void> {
    await this.#maps.ready.catch((error: unknown) =>
      this.#log.warn('the config map cannot be read, so there is no policy', { error: toError(error) }),
    );
    this.#read();
  }

  dispose(): void {
    void this.#maps.dispose();
    this.#changed.dispose();
  }

  #read(): void {
    const map = [...this.#maps.items.values()].find(({ metadata }) => metadata?.name === configMapName);
    const before = this.#wishes;
    this.#wishes = {
      policy: this.#policyOf(map?.data?.[policyKey] ?? '', before.policy),
      ...this.#clientOf(map?.data?.[clientConfigKey] ?? '', before),
    };
    if (JSON.stringify(before) !== JSON.stringify(this.#wishes)) {
      this.#changed.fire();
    }
  }

  /** A slip of an owner's pen changes nothing; a manager that starts with one lets nobody attach. */
  #policyOf(text: string, before: InterceptPolicy): InterceptPolicy {
    try {
      return parsePolicy(text);
    } catch (error) {
      this.#log.error('the policy is not right and is not used', { error: toError(error) });
      return before === silent.policy ? nobody : before;
    }
  }

  #clientOf(text: string, before: OwnerWishes): Pick<OwnerWishes, 'client' | 'clientYaml'> {
    try {
      return { clientYaml: text, client: v.parse(clientConfigSchema, readYaml(text)) };
    } catch (error) {
      this.#log.error('the configuration for clients is not right and is not used', { error: toError(error) });
      return before;
    }
  }
}

/** Errors: `manager.bad-policy`. */
export function parsePolicy(text: string): InterceptPolicy {
  try {
    return v.parse(interceptPolicySchema, readYaml(text));
  } catch (thrown) {
    const issue = thrown instanceof v.ValiError ? thrown.issues[0] : undefined;
    throw badPolicy(issue ? `${v.getDotPath(issue) ?? ''} ${issue.message}`.trim() : toError(thrown).message);
  }
}

function readYaml(text: string): unknown {
  if (text.length > maxTextLength) {
    throw badPolicy('it is too long');
  }
  // An alias can stand for very much: none is needed here.
  return parse(text, { maxAliasCount: 0 }) ?? {};
}
