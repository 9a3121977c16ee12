import { Emitter } from '../base/index.ts';
import { type Informer, type InformerChange, type KubeObject, keyOf } from './informer.ts';

/** Several informers of one kind, each of another namespace, as one. It owns them; none is an empty one. */
export function joinInformers<T extends KubeObject>(parts: readonly Informer<T>[]): Informer<T> {
  const items = new Map<string, T>(parts.flatMap((part) => [...part.items]));
  const changed = new Emitter<InformerChange<T>>();
  const subscriptions = parts.map((part) =>
    part.onItemChanged((change) => {
      if (change.type === 'deleted') {
        items.delete(keyOf(change.object));
      } else {
        items.set(keyOf(change.object), change.object);
      }
      changed.fire(change);
    }),
  );
  return {
    items,
    onItemChanged: changed.event,
    ready: Promise.all(parts.map((part) => part.ready)).then(() => undefined),
    heardAtMs: () => Math.min(...parts.map((part) => part.heardAtMs())),
    dispose() {
      for (const each of [...subscriptions, ...parts]) {
        void each.dispose();
      }
      changed.dispose();
    },
  };
}
