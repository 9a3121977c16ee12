import { type Disposable, Emitter, type Event, type Logger, retry, systemClock, toError } from '../base/index.ts';
import { type Kind, pathOf } from './kind.ts';
import type { Requester } from './request.ts';

export interface KubeObject {
  readonly metadata?: {
    readonly name?: string;
    readonly namespace?: string;
    readonly resourceVersion?: string;
    readonly uid?: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
}

export interface InformerChange<T> {
  readonly type: 'added' | 'modified' | 'deleted';
  readonly object: T;
}

export interface InformerOptions {
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  /** What is kept of an object: a cluster has thousands, and most of their bytes nobody looks at. Default: all of it. */
  readonly trim?: (object: KubeObject) => KubeObject;
  readonly log: Logger;
}

/** The objects of a kind as they are, kept by list and watch. It retries for ever and never stops silently. */
export interface Informer<T> extends Disposable {
  /** By `namespace/name`. */
  readonly items: ReadonlyMap<string, T>;
  readonly onItemChanged: Event<InformerChange<T>>;
  /** Resolves after the first list; rejects when that fails for good, e.g. forbidden. */
  readonly ready: Promise<void>;
  /** When the API server was heard of last, by the system's clock: a bookmark comes every minute. */
  heardAtMs(): number;
}

interface Page<T> {
  readonly items: readonly T[];
  /** All pages have the version of the first. */
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
}

interface WatchLine<T> {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';
  readonly object: T & KubeObject & { readonly code?: number };
}

const watchSeconds = 300;
/** Of a first list, so that it is never in memory as a whole; what `trim` leaves is all that stays. */
const pageSize = 250;
export const keyOf = (object: KubeObject): string =>
  `${object.metadata?.namespace ?? ''}/${object.metadata?.name ?? ''}`;

export function createInformer<T extends KubeObject>(
  requester: Requester,
  kind: Kind,
  options: InformerOptions,
): Informer<T> {
  const items = new Map<string, T>();
  const changed = new Emitter<InformerChange<T>>();
  const controller = new AbortController();
  const path = pathOf(kind, options.namespace);
  const query = { labelSelector: options.labelSelector, fieldSelector: options.fieldSelector };
  const { promise: ready, resolve, reject } = Promise.withResolvers<void>();
  ready.catch(() => undefined);
  let heardAtMs = systemClock.nowMs();

  const { trim = (object) => object } = options;
  const put = (whole: T): void => {
    const object = trim(whole) as T;
    const key = keyOf(object);
    const known = items.get(key);
    if (known?.metadata?.resourceVersion !== object.metadata?.resourceVersion || !known) {
      items.set(key, object);
      changed.fire({ type: known ? 'modified' : 'added', object });
    }
  };
  const drop = (key: string): void => {
    const object = items.get(key);
    if (object) {
      items.delete(key);
      changed.fire({ type: 'deleted', object });
    }
  };

  const list = async (): Promise<string> => {
    const present = new Set<string>();
    let page: Page<T> | undefined;
    do {
      page = await requester.json<Page<T>>({
        path,
        query: { ...query, limit: String(pageSize), continue: page?.metadata.continue },
        signal: controller.signal,
      });
      for (const object of page.items) {
        present.add(keyOf(object));
        put(object);
      }
    } while (page.metadata.continue);
    for (const key of [...items.keys()].filter((each) => !present.has(each))) {
      drop(key);
    }
    heardAtMs = systemClock.nowMs();
    resolve();
    return page.metadata.resourceVersion;
  };

  /** One watch; answers the version to go on from, or undefined when a new list is needed. */
  const watch = async (from: string): Promise<string | undefined> => {
    const response = await requester.stream({
      path,
      query: {
        ...query,
        watch: '1',
        allowWatchBookmarks: 'true',
        resourceVersion: from,
        timeoutSeconds: String(watchSeconds),
      },
      signal: controller.signal,
    });
    // A silent connection is a dead one: the server ends a live watch by itself before this.
    response.setTimeout((watchSeconds + 30) * 1000, () => response.destroy());
    let version = from;
    for await (const text of lines(response)) {
      const line = JSON.parse(text) as WatchLine<T>;
      heardAtMs = systemClock.nowMs();
      if (line.type === 'ERROR') {
        return undefined;
      }
      version = line.object.metadata?.resourceVersion ?? version;
      if (line.type === 'DELETED') {
        drop(keyOf(line.object));
      } else if (line.type !== 'BOOKMARK') {
        put(line.object);
      }
    }
    return version;
  };

  const follow = async (): Promise<void> => {
    let version: string | undefined;
    let failures = 0;
    while (!controller.signal.aborted) {
      await retry(
        async () => {
          try {
            version = version === undefined ? await list() : await watch(version);
            failures = 0;
          } catch (error) {
            version = undefined;
            failures++;
            throw error;
          }
        },
        {
          clock: systemClock,
          signal: controller.signal,
          onRetry: (error) => {
            options.log.debug('watch failed, retrying', { kind: kind.kind, failures, error: toError(error) });
            if (toError(error).code === 'permission_denied') {
              reject(error);
            }
          },
        },
      );
    }
  };
  follow().catch((error: unknown) => reject(error));

  return {
    items,
    onItemChanged: changed.event,
    ready,
    heardAtMs: () => heardAtMs,
    dispose() {
      controller.abort();
      changed.dispose();
    },
  };
}

async function* lines(response: AsyncIterable<Buffer>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of response) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = parts.pop() ?? '';
    yield* parts.filter((part) => part.trim() !== '');
  }
}
