import { existsSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { KubeConfig } from '@kubernetes/client-node';
import { isReason, systemClock, toError } from '../base/index.ts';
import { badKubeconfig, noKubeconfig, noSuchContext } from './errors.ts';
import { createIdentities, type Identities } from './identity.ts';
import { createInformer, type Informer, type InformerOptions, type KubeObject } from './informer.ts';
import { type Kind, kindOf, kinds, pathOf } from './kind.ts';
import { openPodProxy } from './pod-proxy.ts';
import { type ConnectToPodOptions, PodWay, type Way } from './pod-way.ts';
import { openPortForward, type PortForwardOptions } from './port-forward.ts';
import { Requester } from './request.ts';

/** Who we are to the API server when objects are applied. */
export const fieldManager = 'nearfield';

export interface KubeTarget {
  readonly context: string;
  readonly server: string;
  readonly namespace: string;
}

export interface ListOptions {
  readonly namespace?: string | undefined;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  readonly signal?: AbortSignal;
}

export interface ApplyOptions {
  /** Nothing is kept; the answer is what it would be. */
  readonly dryRun?: boolean;
  /** Takes fields that others set. Default: true. Without it they are a `kube.status-409`. */
  readonly force?: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface AccessQuestion {
  readonly verb: string;
  readonly group?: string;
  readonly resource: string;
  readonly subresource?: string;
  readonly namespace?: string;
}

/** The Kubernetes API as we want it. Every call has a time limit; errors are ours. */
export interface Kube extends Identities {
  readonly target: KubeTarget;
  readonly contexts: readonly string[];
  get<T>(kind: Kind, name: string, namespace?: string): Promise<T | undefined>;
  list<T>(kind: Kind, options?: ListOptions): Promise<T[]>;
  create<T>(kind: Kind, object: KubeObject): Promise<T>;
  /** Server-side apply: what we name becomes ours, the rest stays as it is. Answers the object as it is then. */
  apply<T>(
    object: KubeObject & { readonly apiVersion?: string; readonly kind?: string },
    options?: ApplyOptions,
  ): Promise<T>;
  patch<T>(
    kind: Kind,
    name: string,
    namespace: string | undefined,
    body: unknown,
    type: 'merge' | 'json' | 'strategic',
  ): Promise<T>;
  /** Deleting what is not there is no error. */
  remove(kind: Kind, name: string, namespace?: string): Promise<void>;
  /** `blocked`: a disruption budget says no for now. */
  evict(pod: string, namespace: string): Promise<'evicted' | 'gone' | 'blocked'>;
  watch<T extends KubeObject>(kind: Kind, options: InformerOptions): Informer<T>;
  openPortForward(options: PortForwardOptions): Promise<Duplex>;
  /** To a program that takes `upgrade`: through the API server's proxy where that leads there, else by a port-forward. */
  connectToPod(options: ConnectToPodOptions): Promise<Duplex>;
  /** By which of them a namespace's pods were reached last. */
  wayTo(namespace: string): Way | undefined;
  /** Asks what we may do before we try it. */
  mayI(question: AccessQuestion): Promise<boolean>;
  version(): Promise<string>;
}

export interface LoadOptions {
  readonly kubeconfig?: string | undefined;
  readonly context?: string | undefined;
}

/** Reads the kubeconfig by the usual rules, or the given file. Errors: `kube.no-kubeconfig`, `kube.bad-kubeconfig`, `kube.no-such-context`. */
export function loadKube(options: LoadOptions = {}): Kube {
  const config = new KubeConfig();
  if (options.kubeconfig !== undefined && !existsSync(options.kubeconfig)) {
    throw noKubeconfig();
  }
  try {
    if (options.kubeconfig) {
      config.loadFromFile(options.kubeconfig);
    } else {
      config.loadFromDefault();
    }
  } catch (error) {
    throw badKubeconfig(options.kubeconfig ?? '(default)', error);
  }
  // Without any file the library makes up a cluster on localhost:8080.
  if (config.getContexts().length === 0 || config.getCurrentCluster()?.server === 'http://localhost:8080') {
    throw noKubeconfig();
  }
  if (options.context) {
    if (!config.getContexts().some((context) => context.name === options.context)) {
      throw noSuchContext(options.context);
    }
    config.setCurrentContext(options.context);
  }
  return createKube(config);
}

/** With the service account of the pod this runs in. */
export function loadKubeInCluster(): Kube {
  const config = new KubeConfig();
  config.loadFromCluster();
  return createKube(config);
}

function createKube(config: KubeConfig): Kube {
  const requester = new Requester(config);
  const context = config.getCurrentContext();
  const podWay = new PodWay({
    clock: systemClock,
    openPodProxy: (options) => openPodProxy(requester, options),
    openPortForward: (options) => openPortForward(requester, options),
  });
  return {
    target: {
      context,
      server: requester.server,
      namespace: config.getContextObject(context)?.namespace ?? 'default',
    },
    contexts: config.getContexts().map(({ name }) => name),
    ...createIdentities(requester),
    get: (kind, name, namespace) => orUndefined(requester.json({ path: pathOf(kind, namespace, name) })),
    list: async <T>(kind: Kind, { namespace, labelSelector, fieldSelector, signal }: ListOptions = {}) =>
      (
        await requester.json<{ items: T[] }>({
          path: pathOf(kind, namespace),
          query: { labelSelector, fieldSelector },
          signal,
        })
      ).items,
    create: (kind, object) =>
      requester.json({
        method: 'POST',
        path: pathOf(kind, object.metadata?.namespace),
        query: { fieldManager },
        body: object,
      }),
    apply: (object, { dryRun = false, force = true, signal } = {}) => {
      const kind = kindOf(object) ?? kinds.configMap;
      return requester.json({
        method: 'PATCH',
        path: pathOf(kind, object.metadata?.namespace, object.metadata?.name),
        query: { fieldManager, force: String(force), dryRun: dryRun ? 'All' : undefined },
        body: object,
        signal,
        contentType: 'application/apply-patch+yaml',
      });
    },
    patch: (kind, name, namespace, body, type) =>
      requester.json({
        method: 'PATCH',
        path: pathOf(kind, namespace, name),
        query: { fieldManager },
        body,
        contentType: `application/${type === 'json' ? 'json' : type === 'merge' ? 'merge' : 'strategic-merge'}-patch+json`,
      }),
    remove: async (kind, name, namespace) => {
      await orUndefined(requester.json({ method: 'DELETE', path: pathOf(kind, namespace, name) }));
    },
    evict: (pod, namespace) => evict(requester, pod, namespace),
    watch: (kind, options) => createInformer(requester, kind, options),
    openPortForward: (options) => openPortForward(requester, options),
    connectToPod: (options) => podWay.open(options),
    wayTo: (namespace) => podWay.latest(namespace),
    mayI: async ({ verb, group = '', resource, subresource, namespace }) => {
      const review = await requester.json<{ status?: { allowed?: boolean } }>({
        method: 'POST',
        path: '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
        body: {
          apiVersion: 'authorization.k8s.io/v1',
          kind: 'SelfSubjectAccessReview',
          spec: { resourceAttributes: { verb, group, resource, subresource, namespace } },
        },
      });
      return review.status?.allowed === true;
    },
    version: async () => (await requester.json<{ gitVersion: string }>({ path: '/version' })).gitVersion,
  };
}

async function orUndefined<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (isReason(error, 'kube.status-404')) {
      return undefined;
    }
    throw error;
  }
}

async function evict(requester: Requester, name: string, namespace: string): Promise<'evicted' | 'gone' | 'blocked'> {
  try {
    await requester.json({
      method: 'POST',
      path: `${pathOf(kinds.pod, namespace, name)}/eviction`,
      body: { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name, namespace } },
    });
    return 'evicted';
  } catch (error) {
    const { reason } = toError(error);
    if (reason === 'kube.status-404') {
      return 'gone';
    }
    if (reason === 'kube.status-429') {
      return 'blocked';
    }
    throw error;
  }
}
