import { create } from '@bufbuild/protobuf';
import { type Disposable, Emitter, type Event } from '../../base/index.ts';
import { wire } from '../../protocol/index.ts';
import { shared } from '../../protocol/transport/index.ts';
import type { ClusterView, Workload } from '../cluster/cluster.ts';
import type { ManagedNamespaces } from '../cluster/managed.ts';
import type { Store } from '../state/store.ts';
import { type Limits, watchSnapshots } from '../state/watch.ts';
import { kindNumbers } from './convert.ts';

const { ACTIVE } = wire.InterceptDispositionType;
const { ADDED_UNSPECIFIED, MODIFIED, DELETED } = wire.WorkloadEvent_Type;
const { NO_AGENT_UNSPECIFIED, INSTALLED, INTERCEPTED } = wire.WorkloadInfo_AgentState;
/** Deleted workloads that somebody who does not read has not been told of. */
const maxTombstones = 10_000;

/** A workload as it was last said, and when, in versions of the board. */
interface Entry {
  readonly workload: Workload;
  readonly state: string;
  readonly added: wire.WorkloadEvent;
  readonly modified: wire.WorkloadEvent;
  readonly addedAt: number;
  readonly changedAt: number;
}

export interface Reading {
  readonly version: number;
  readonly delta: wire.WorkloadEventsDelta | undefined;
}

export interface BoardDeps {
  readonly view: ClusterView;
  readonly store: Store;
  /** Any of them has changed. */
  readonly onChanged: Event<void>;
  /** Default: every namespace. */
  readonly managed?: Pick<ManagedNamespaces, 'has'> | undefined;
}

/**
 * The workloads of one namespace, for everybody who watches it: what has changed is found once, and each reader keeps
 * only how far it has read. A reader that is slow gets later what is true by then.
 */
export class WorkloadBoard implements Disposable {
  readonly #view: ClusterView;
  readonly #store: Store;
  readonly #namespace: string;
  readonly #managed: BoardDeps['managed'];
  readonly #entries = new Map<string, Entry>();
  readonly #deleted = new Map<
    string,
    { readonly at: number; readonly addedAt: number; readonly event: wire.WorkloadEvent }
  >();
  /** To this version, by the one that was read. */
  readonly #deltas = new Map<number, wire.WorkloadEventsDelta>();
  readonly #changed = new Emitter<void>();
  readonly #subscription: Disposable;
  #version = 1;
  /** Readers that have not come further cannot be told what has gone. */
  #forgottenAt = 0;

  constructor(deps: BoardDeps, namespace: string) {
    this.#view = deps.view;
    this.#store = deps.store;
    this.#namespace = namespace;
    this.#managed = deps.managed;
    this.#look();
    this.#subscription = deps.onChanged(() => this.#look());
  }

  /** The first delta is everything, and comes even when that is nothing. Ends early for who has not read for too long. */
  async *watch(limits: Limits): AsyncGenerator<wire.WorkloadEventsDelta> {
    let read = 0;
    const next = (): number => this.#version;
    for await (const _ of watchSnapshots(this.#changed.event, limits, next, (version) => version)) {
      const reading = this.read(read);
      if (!reading) {
        return;
      }
      read = reading.version;
      if (reading.delta) {
        yield reading.delta;
      }
    }
  }

  /** Something is there to read. */
  get onChanged(): Event<void> {
    return this.#changed.event;
  }

  /**
   * What is new since a version, 0 being the first, in one turn: what is said is what is true now, and not when the reader
   * was woken. Undefined: it has not read for too long, and has to begin anew. Without a delta there is nothing to say.
   */
  read(read: number): Reading | undefined {
    if (read > 0 && read < this.#forgottenAt) {
      return undefined;
    }
    const delta = this.#delta(read);
    return { version: this.#version, delta: read === 0 || delta.events.length > 0 ? delta : undefined };
  }

  dispose(): void {
    void this.#subscription.dispose();
    this.#changed.dispose();
  }

  /** Most have read equally far, and get the same. */
  #delta(read: number): wire.WorkloadEventsDelta {
    const known = this.#deltas.get(read);
    if (known) {
      return known;
    }
    const delta = shared(create(wire.WorkloadEventsDeltaSchema, { events: this.#since(read) }));
    this.#deltas.set(read, delta);
    return delta;
  }

  #since(read: number): wire.WorkloadEvent[] {
    const events: wire.WorkloadEvent[] = [];
    for (const { at, addedAt, event } of this.#deleted.values()) {
      if (at > read && addedAt <= read) {
        events.push(event);
      }
    }
    // After the end of the one before that had the same name.
    for (const { changedAt, addedAt, added, modified } of this.#entries.values()) {
      if (changedAt > read) {
        events.push(addedAt > read ? added : modified);
      }
    }
    return events;
  }

  #look(): void {
    const version = this.#version + 1;
    const attached = this.#attached();
    const withAgent = new Set(this.#store.agentsIn(this.#namespace).map(({ info }) => info.name));
    const gone = new Set(this.#entries.keys());
    let isChanged = false;
    const isManaged = this.#managed?.has(this.#namespace) ?? true;
    for (const workload of isManaged ? this.#view.workloads(this.#namespace) : []) {
      const key = `${workload.kind}/${workload.name}`;
      gone.delete(key);
      const clients = attached.get(workload.name) ?? [];
      const agentState =
        clients.length > 0 ? INTERCEPTED : withAgent.has(workload.name) ? INSTALLED : NO_AGENT_UNSPECIFIED;
      const state = JSON.stringify([agentState, ...clients]);
      const known = this.#entries.get(key);
      if (known?.workload !== workload || known.state !== state) {
        isChanged =
          this.#put(key, { workload, state, info: toWorkloadInfo(workload, agentState, clients) }, version) ||
          isChanged;
      }
    }
    for (const key of gone) {
      this.#remove(key, version);
    }
    if (isChanged || gone.size > 0) {
      this.#version = version;
      this.#deltas.clear();
      this.#changed.fire();
    }
  }

  /** Names of the clients of each workload that is attached to. */
  #attached(): Map<string, string[]> {
    const found = new Map<string, string[]>();
    for (const { spec, disposition } of this.#store.intercepts.values()) {
      if (spec?.namespace === this.#namespace && disposition === ACTIVE) {
        found.set(spec.agent, [...(found.get(spec.agent) ?? []), spec.client]);
      }
    }
    return found;
  }

  /** Answers false where nothing is different for who watches. */
  #put(
    key: string,
    {
      workload,
      state,
      info,
    }: { readonly workload: Workload; readonly state: string; readonly info: wire.WorkloadInfo },
    version: number,
  ): boolean {
    const known = this.#entries.get(key);
    const before = known?.added.workload;
    const isSame =
      known?.state === state &&
      before?.uid === info.uid &&
      before.state === info.state &&
      before.desiredReplicas === info.desiredReplicas &&
      before.readyReplicas === info.readyReplicas;
    if (isSame) {
      this.#entries.set(key, { ...known, workload });
      return false;
    }
    this.#entries.set(key, {
      workload,
      state,
      added: create(wire.WorkloadEventSchema, { type: ADDED_UNSPECIFIED, workload: info }),
      modified: create(wire.WorkloadEventSchema, { type: MODIFIED, workload: info }),
      addedAt: known?.addedAt ?? version,
      changedAt: version,
    });
    return true;
  }

  #remove(key: string, version: number): void {
    const known = this.#entries.get(key);
    this.#entries.delete(key);
    if (!known) {
      return;
    }
    const { kind, name, namespace } = known.workload;
    const workload = { kind: kindNumbers[kind], name, namespace };
    const event = create(wire.WorkloadEventSchema, { type: DELETED, workload });
    const addedAt = this.#deleted.get(key)?.addedAt ?? known.addedAt;
    this.#deleted.delete(key);
    this.#deleted.set(key, { at: version, addedAt, event });
    const [oldest] = this.#deleted;
    if (oldest && this.#deleted.size > maxTombstones) {
      this.#deleted.delete(oldest[0]);
      this.#forgottenAt = Math.max(this.#forgottenAt, oldest[1].at);
    }
  }
}

function toWorkloadInfo(
  { kind, name, namespace, object }: Workload,
  agentState: wire.WorkloadInfo_AgentState,
  clients: readonly string[],
): wire.WorkloadInfo {
  const desired = object.spec?.replicas ?? 1;
  const ready = object.status?.readyReplicas ?? 0;
  return create(wire.WorkloadInfoSchema, {
    kind: kindNumbers[kind],
    name,
    namespace,
    uid: object.metadata?.uid ?? '',
    agentState,
    interceptClients: clients.map((client) => ({ client })),
    state: ready >= desired ? wire.WorkloadInfo_State.AVAILABLE : wire.WorkloadInfo_State.PROGRESSING,
    desiredReplicas: desired,
    readyReplicas: ready,
  });
}
