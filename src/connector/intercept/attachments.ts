import { type Clock, type Disposable, Emitter, type Logger } from '../../base/index.ts';
import { isOurName, parseVersion, type wire } from '../../protocol/index.ts';
import type { Attachment, AttachRequest, PortProtocol } from '../contract.ts';
import { badAttachRequest, managerTooOldFor, noSuchAttachment } from '../errors.ts';
import type { FilesOrigin, Mounts } from '../mounts/mounts.ts';
import { type FilesSource, volumesOf } from '../mounts/plan.ts';
import type { AttachmentVolumes } from '../mounts/volumes.ts';
import type { ClusterDialer } from '../outbound/dial.ts';
import { type Ingest, ingest } from './ingest.ts';
import { createIntercept, type InterceptSession, leaveIntercept } from './intercept.ts';
import { type AttachPlan, planAttach } from './request.ts';
import { portsOf, toAttachment } from './spec.ts';
import { openToPod } from './to-pod.ts';

export interface AttachmentsDeps {
  readonly session: InterceptSession & { readonly version: wire.VersionInfo2 | undefined };
  readonly dialer: Pick<ClusterDialer, 'dialTcp' | 'openUdp'>;
  /** Undefined: there is no place for files. */
  readonly mounts?: Pick<Mounts, 'open'> | undefined;
  /** The namespace that is connected to. */
  readonly namespace: string;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Everything that one connection is attached to. Intercepts are the manager's and seen there; ingests are ours. */
export class Attachments implements Disposable {
  readonly #deps: AttachmentsDeps;
  readonly #ingests = new Map<string, Ingest>();
  readonly #forwards = new Map<string, Disposable>();
  readonly #volumes = new Map<string, AttachmentVolumes>();
  /** Volumes that are being removed. */
  readonly #ending = new Set<Promise<void>>();
  /** Names of attachments that are being made: two that come together get two names. */
  readonly #reserved = new Set<string>();
  readonly #attempts = new Map<string, AbortController>();
  readonly #changed = new Emitter<void>();
  readonly onChanged = this.#changed.event;
  readonly #subscription: Disposable;

  constructor(deps: AttachmentsDeps) {
    this.#deps = deps;
    this.#subscription = deps.session.onInterceptsChanged(() => {
      this.#closeForwards();
      this.#changed.fire();
    });
  }

  get views(): readonly Attachment[] {
    const intercepts = this.#deps.session.intercepts.map(toAttachment).filter((each) => each !== undefined);
    return [...intercepts, ...[...this.#ingests.values()].map(({ view }) => view)].map((each) => {
      const files = this.#volumes.get(each.name)?.view;
      return files && files.volumes.length > 0 ? { ...each, files } : each;
    });
  }

  /** Errors: `connector.bad-attach-request`, `connector.manager-too-old-for`, those of intercepts and ingests, `connector.port-taken`. */
  async attach(request: AttachRequest, attempt?: string): Promise<Attachment> {
    const plan = planAttach(request, this.#deps.namespace);
    checkManager(plan, this.#deps.session.version);
    const name = this.#reserve(plan);
    const controller = new AbortController();
    if (attempt !== undefined) {
      this.#attempts.set(attempt, controller);
    }
    const signal = AbortSignal.any([controller.signal, this.#deps.session.signal]);
    try {
      const made =
        plan.mode === 'ingest'
          ? await this.#ingest({ ...plan, name }, signal)
          : await this.#intercept(plan, name, signal);
      this.#changed.fire();
      return made;
    } finally {
      this.#reserved.delete(name);
      if (attempt !== undefined) {
        this.#attempts.delete(attempt);
      }
    }
  }

  /** Ends an attach that is under way: it rejects with code `cancelled`, and leaves nothing. */
  cancel(attempt: string): void {
    this.#attempts.get(attempt)?.abort();
  }

  async leave(name: string): Promise<void> {
    const found = this.#find(name);
    if (!this.#ingests.delete(found)) {
      await leaveIntercept(this.#deps.session, found);
    }
    this.#closeForwards();
    this.#changed.fire();
    await Promise.all(this.#ending);
  }

  /** The container's, and where its files are; from memory. */
  environment(name: string): Readonly<Record<string, string>> {
    const found = this.#find(name);
    const intercept = this.#deps.session.intercepts.find(({ spec }) => spec?.name === found);
    const environment = this.#ingests.get(found)?.environment ?? intercept?.environment ?? {};
    const files = this.#volumes.get(found)?.view;
    return files && files.volumes.length > 0 ? { ...environment, TELEPRESENCE_ROOT: files.root } : environment;
  }

  /** Whether a program of this machine may be reached from the cluster. */
  isAllowed(host: string, port: number, protocol: PortProtocol): boolean {
    return this.#deps.session.intercepts.some(
      ({ spec }) =>
        spec?.targetHost === host &&
        portsOf(spec).some((each) => each.localPort === port && each.protocol === protocol && port !== 0),
    );
  }

  async dispose(): Promise<void> {
    void this.#subscription.dispose();
    this.#ingests.clear();
    for (const each of this.#forwards.values()) {
      void each.dispose();
    }
    this.#forwards.clear();
    this.#endVolumes(() => true);
    await Promise.all(this.#ending);
    this.#changed.dispose();
  }

  async #intercept(plan: AttachPlan, proposed: string, signal: AbortSignal): Promise<Attachment> {
    const { session, clock } = this.#deps;
    const name = await createIntercept(session, plan, proposed, clock, signal);
    const info = (): wire.InterceptInfo | undefined => session.intercepts.find(({ spec }) => spec?.name === name);
    try {
      await this.#openToPod(name, plan, () => info()?.podIp ?? '');
      await this.#openVolumes(name, plan, { source: () => filesOf(info()) });
    } catch (error) {
      await leaveIntercept(session, name).catch(() => undefined);
      throw error;
    }
    const found = info();
    const view = found && this.views.find((each) => each.name === name);
    if (!view) {
      throw noSuchAttachment(name);
    }
    return view;
  }

  async #ingest(plan: AttachPlan, signal: AbortSignal): Promise<Attachment> {
    const made = await ingest(this.#deps.session, plan, signal);
    const { name } = made.view;
    if (this.#names().includes(name)) {
      throw badAttachRequest(`an attachment named ${name} exists already`);
    }
    await this.#openToPod(name, plan, () => this.#ingests.get(name)?.podIp ?? made.podIp);
    this.#ingests.set(name, made);
    const renew = async (limit: AbortSignal): Promise<void> => {
      const again = await ingest(this.#deps.session, plan, limit);
      if (this.#ingests.has(name)) {
        this.#ingests.set(name, again);
      }
    };
    await this.#openVolumes(name, plan, { source: () => this.#ingests.get(name)?.files, renew }).catch(
      (error: unknown) => {
        this.#ingests.delete(name);
        this.#closeForwards();
        throw error;
      },
    );
    return this.views.find((each) => each.name === name) ?? made.view;
  }

  async #openVolumes(name: string, { mount }: AttachPlan, origin: FilesOrigin): Promise<void> {
    const { mounts } = this.#deps;
    if (mount && mounts) {
      const volumes = await mounts.open(name, mount, origin);
      volumes.onChanged(() => this.#changed.fire());
      this.#volumes.set(name, volumes);
      // It may have been left meanwhile.
      this.#endVolumes((each) => !this.#names().includes(each));
    }
  }

  #endVolumes(isOver: (name: string) => boolean): void {
    for (const [name, volumes] of this.#volumes) {
      if (isOver(name)) {
        this.#volumes.delete(name);
        const ending = volumes.dispose().finally(() => this.#ending.delete(ending));
        this.#ending.add(ending);
      }
    }
  }

  async #openToPod(name: string, { toPod }: AttachPlan, podIp: () => string): Promise<void> {
    if (toPod.length > 0) {
      this.#forwards.set(name, await openToPod({ ...this.#deps, podIp }, toPod));
    }
  }

  /** Those of attachments that are not there any more, by whatever way they went. */
  #closeForwards(): void {
    const names = this.#names();
    for (const [name, forward] of this.#forwards) {
      if (!names.includes(name)) {
        this.#forwards.delete(name);
        void forward.dispose();
      }
    }
    this.#endVolumes((name) => !names.includes(name));
  }

  #names(): string[] {
    return this.views.map(({ name }) => name);
  }

  /** A replaced or ingested container may be called by its workload alone, while that is clear. */
  #find(name: string): string {
    const names = this.#names();
    const ofWorkload = names.filter((each) => each.startsWith(`${name}/`));
    const found = names.includes(name) ? name : ofWorkload.length === 1 ? ofWorkload[0] : undefined;
    if (found === undefined) {
      throw noSuchAttachment(name);
    }
    return found;
  }

  /** Of several attachments of a workload the further ones are counted. */
  #reserve({ mode, name, isNameGiven }: AttachPlan): string {
    if (!isNameGiven && (mode === 'replace' || mode === 'ingest')) {
      // The container makes the name unique, once it is known.
      return name;
    }
    const isTaken = (each: string): boolean => this.#reserved.has(each) || this.#names().includes(each);
    if (isNameGiven && isTaken(name)) {
      throw badAttachRequest(`an attachment named ${name} exists already`);
    }
    let free = name;
    for (let count = 2; isTaken(free); count++) {
      free = `${name}-${count}`;
    }
    this.#reserved.add(free);
    return free;
  }
}

function filesOf(info: wire.InterceptInfo | undefined): FilesSource | undefined {
  return (
    info && {
      podIp: info.podIp,
      port: info.sftpPort,
      mountPoint: info.mountPoint,
      mounts: volumesOf(info.mounts, info.environment),
    }
  );
}

/**
 * What an older manager does not know it would pass over, and who asked for a part of the requests would get all. Our
 * own says what it does not do, whatever its number.
 */
function checkManager(plan: AttachPlan, version: wire.VersionInfo2 | undefined): void {
  const parsed = parseVersion(version?.version ?? '');
  if (!version || !parsed || isOurName(version.name)) {
    return;
  }
  const isFiltered = plan.filters.pathFilters.length > 0 || Object.keys(plan.filters.headerFilters).length > 0;
  const needs: readonly (readonly [boolean, number, string])[] = [
    [isFiltered, 25, 'filters'],
    [plan.mode === 'wiretap', 23, 'wiretaps'],
    [plan.mode === 'replace', 22, 'replacing a container'],
    [plan.ports.length > 1, 22, 'several ports'],
    [plan.mode === 'ingest', 21, 'ingests'],
  ];
  for (const [isNeeded, minor, what] of needs) {
    if (isNeeded && parsed.major === 2 && parsed.minor < minor) {
      throw managerTooOldFor(what, version.version, `2.${minor}`);
    }
  }
}
