import { create } from '@bufbuild/protobuf';
import { type NamespaceEvents, NamespaceEventsSchema, type wire } from '../../protocol/index.ts';
import { shared } from '../../protocol/transport/index.ts';
import { isOver, type Limits, whenOver } from '../state/watch.ts';
import { type BoardDeps, WorkloadBoard } from './board.ts';

async function* nothing(): AsyncGenerator<never> {}

/** By what they say: it is the same for all who have read equally far, and is encoded once. */
const messages = new WeakMap<wire.WorkloadEventsDelta, NamespaceEvents>();

/** The boards that somebody reads, one of each namespace. */
export class WorkloadBoards {
  readonly #deps: BoardDeps;
  readonly #boards = new Map<string, { readonly board: WorkloadBoard; readers: number }>();

  constructor(deps: BoardDeps) {
    this.#deps = deps;
  }

  /** The board is there for as long as one reader's limits are not over. Empty where this one's are. */
  watch(namespace: string, limits: Limits): AsyncGenerator<wire.WorkloadEventsDelta> {
    return isOver(limits) ? nothing() : this.#enter(namespace, limits).watch(limits);
  }

  /** Several in one: each as if it were watched alone, and in no order among them. */
  async *watchAll(namespaces: readonly string[], limits: Limits): AsyncGenerator<NamespaceEvents> {
    if (isOver(limits)) {
      return;
    }
    let wake: () => void = () => undefined;
    const readers = [...new Set(namespaces)].map((namespace) => ({
      namespace,
      board: this.#enter(namespace, limits),
      read: 0,
    }));
    const unread = new Set(readers);
    const subscriptions = readers.map((reader) =>
      reader.board.onChanged(() => {
        unread.add(reader);
        wake();
      }),
    );
    const ending = whenOver(limits, () => wake());
    try {
      while (!isOver(limits)) {
        const [reader] = unread;
        if (!reader) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
          continue;
        }
        unread.delete(reader);
        const reading = reader.board.read(reader.read);
        if (!reading) {
          return;
        }
        const isFirst = reader.read === 0;
        reader.read = reading.version;
        if (reading.delta) {
          yield messageOf(reader.namespace, isFirst, reading.delta);
        }
      }
    } finally {
      void ending.dispose();
      for (const each of subscriptions) {
        void each.dispose();
      }
    }
  }

  #enter(namespace: string, limits: Limits): WorkloadBoard {
    const entered = this.#boards.get(namespace) ?? { board: new WorkloadBoard(this.#deps, namespace), readers: 0 };
    this.#boards.set(namespace, entered);
    entered.readers++;
    const leaving = whenOver(limits, () => {
      void leaving.dispose();
      if (--entered.readers === 0) {
        this.#boards.delete(namespace);
        entered.board.dispose();
      }
    });
    return entered.board;
  }
}

function messageOf(namespace: string, isFirst: boolean, delta: wire.WorkloadEventsDelta): NamespaceEvents {
  const known = messages.get(delta);
  if (known) {
    return known;
  }
  const message = shared(create(NamespaceEventsSchema, { namespace, isFirst, delta }));
  messages.set(delta, message);
  return message;
}
