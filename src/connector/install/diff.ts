import { stringify } from 'yaml';
import type { KubeObject } from '../../kube/index.ts';

/** What the API server adds by itself: no difference that anybody made. */
const serversMetadata = ['managedFields', 'resourceVersion', 'uid', 'generation', 'creationTimestamp', 'selfLink'];
const contextLines = 3;

/** An object as YAML lines, without what belongs to the API server. */
export function toLines(object: KubeObject | undefined): string[] {
  if (!object) {
    return [];
  }
  const { status: _, metadata = {}, ...rest } = object as KubeObject & { readonly status?: unknown };
  const kept = Object.fromEntries(Object.entries(metadata).filter(([name]) => !serversMetadata.includes(name)));
  const { apiVersion, kind, ...body } = rest as Record<string, unknown>;
  return stringify({ apiVersion, kind, metadata: kept, ...body }, { lineWidth: 0, aliasDuplicateObjects: false })
    .trimEnd()
    .split('\n');
}

type Line = readonly [' ' | '-' | '+', string];

/** The lines of a unified difference; empty when there is none. */
export function diffLines(before: readonly string[], after: readonly string[]): string[] {
  const lines = align(before, after);
  const changed = lines.flatMap(([sign], index) => (sign === ' ' ? [] : [index]));
  const out: string[] = [];
  let last = -1;
  lines.forEach(([sign, text], index) => {
    if (changed.some((at) => Math.abs(at - index) <= contextLines)) {
      if (index > last + 1) {
        out.push('  …');
      }
      out.push(`${sign} ${text}`);
      last = index;
    }
  });
  return out;
}

/** The longest common sequence by a table: objects have a few hundred lines. */
function align(before: readonly string[], after: readonly string[]): Line[] {
  const width = after.length + 1;
  const common = new Uint32Array((before.length + 1) * width);
  const at = (row: number, column: number): number => common[row * width + column] ?? 0;
  for (let row = before.length - 1; row >= 0; row--) {
    for (let column = after.length - 1; column >= 0; column--) {
      common[row * width + column] =
        before[row] === after[column]
          ? at(row + 1, column + 1) + 1
          : Math.max(at(row + 1, column), at(row, column + 1));
    }
  }
  const lines: Line[] = [];
  let [row, column] = [0, 0];
  while (row < before.length || column < after.length) {
    const [left, right] = [before[row], after[column]];
    if (left !== undefined && left === right) {
      lines.push([' ', left]);
      row++;
      column++;
    } else if (left !== undefined && (right === undefined || at(row + 1, column) >= at(row, column + 1))) {
      lines.push(['-', left]);
      row++;
    } else {
      lines.push(['+', right ?? '']);
      column++;
    }
  }
  return lines;
}
