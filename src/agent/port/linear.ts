import { setFlagsFromString } from 'node:v8';
import { type FilterFields, isPattern, parsePathFilter } from '../../protocol/index.ts';

/**
 * Patterns come from the attached, what they are tried on from any caller: a pattern that backtracks without end would
 * stop the pod's traffic. With these flags V8 goes over to its linear engine (since 8.8, experimental, hence only
 * for the rare pattern that backtracks much), and a pattern it cannot take is refused: those that look around or
 * back, which the public wire's patterns (RE2) do not have either. Before the first pattern is compiled.
 */
setFlagsFromString('--enable-experimental-regexp-engine');
setFlagsFromString('--enable-experimental-regexp-engine-on-excessive-backtracks');

export function isLinear({ headerFilters, pathFilters }: FilterFields): boolean {
  const paths = pathFilters.map(parsePathFilter).filter(({ kind }) => kind === 'regex');
  return [...Object.values(headerFilters).filter(isPattern), ...paths.map(({ value }) => value)].every((pattern) => {
    try {
      return new RegExp(pattern, 'l') !== undefined;
    } catch {
      return false;
    }
  });
}
