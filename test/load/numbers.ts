/** Durations of one kind, and what they come to. */
export class Samples {
  readonly #values: number[] = [];
  failed = 0;
  /** Why, of the first one: for whoever repairs it. */
  firstFailure: unknown;

  add(ms: number): void {
    this.#values.push(ms);
  }

  get count(): number {
    return this.#values.length;
  }

  /** NaN without any. */
  percentile(share: number): number {
    const sorted = [...this.#values].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
  }

  get summary(): Summary {
    const { count, failed } = this;
    return { count, failed, p50: this.percentile(0.5), p99: this.percentile(0.99), max: this.percentile(1) };
  }
}

export interface Summary {
  readonly count: number;
  readonly failed: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** Times a call; a failure is counted and answered with undefined. */
export async function timed<T>(samples: Samples, work: () => Promise<T>): Promise<T | undefined> {
  const started = performance.now();
  try {
    const value = await work();
    samples.add(performance.now() - started);
    return value;
  } catch (error) {
    samples.failed++;
    samples.firstFailure ??= error;
    return undefined;
  }
}

/** The slope of a straight line through points, per unit of x. */
export function slope(points: readonly { readonly x: number; readonly y: number }[]): number {
  const mean = (pick: (point: { x: number; y: number }) => number): number =>
    points.reduce((sum, point) => sum + pick(point), 0) / points.length;
  const [meanX, meanY] = [mean(({ x }) => x), mean(({ y }) => y)];
  const above = points.reduce((sum, { x, y }) => sum + (x - meanX) * (y - meanY), 0);
  const below = points.reduce((sum, { x }) => sum + (x - meanX) ** 2, 0);
  return below === 0 ? 0 : above / below;
}
