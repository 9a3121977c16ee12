/** Prometheus' text format (version 0.0.4): the part of it that counters and gauges need. */

export type Labels = Readonly<Record<string, string>>;
export interface Sample {
  readonly labels?: Labels;
  readonly value: number;
}

/** Only goes up. Label values come from a small set: each pair is kept for ever. */
export class Counter {
  readonly #values = new Map<string, { readonly labels: Labels; value: number }>();

  /** A counter without labels exists from the start: rates of what has not happened yet are zero, not missing. */
  constructor(hasLabels: boolean) {
    if (!hasLabels) {
      this.add(0);
    }
  }

  add(by: number, labels: Labels = {}): void {
    const key = formatLabels(labels);
    const known = this.#values.get(key);
    if (known) {
      known.value += by;
    } else {
      this.#values.set(key, { labels, value: by });
    }
  }

  get samples(): Sample[] {
    return [...this.#values.values()];
  }
}

interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge';
  readonly collect: () => readonly Sample[];
}

/** Everything that is measured, in the order of its definition. */
export class Registry {
  readonly #families: Family[] = [];

  counter(name: string, help: string, hasLabels = false): Counter {
    const counter = new Counter(hasLabels);
    this.#families.push({ name, help, type: 'counter', collect: () => counter.samples });
    return counter;
  }

  /** Asked for when somebody reads: nothing is counted meanwhile. */
  collected(type: Family['type'], name: string, help: string, collect: () => readonly Sample[]): void {
    this.#families.push({ name, help, type, collect });
  }

  gauge(name: string, help: string, value: () => number): void {
    this.collected('gauge', name, help, () => [{ value: value() }]);
  }

  text(): string {
    return this.#families.map(formatFamily).join('');
  }
}

function formatFamily({ name, help, type, collect }: Family): string {
  const lines = collect().map(({ labels = {}, value }) => `${name}${formatLabels(labels)} ${formatValue(value)}\n`);
  return `# HELP ${name} ${help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}\n# TYPE ${name} ${type}\n${lines.join('')}`;
}

function formatLabels(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

const escaped = (value: string): string =>
  value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');

function formatValue(value: number): string {
  if (Number.isNaN(value)) {
    return 'NaN';
  }
  return Number.isFinite(value) ? String(value) : value > 0 ? '+Inf' : '-Inf';
}
