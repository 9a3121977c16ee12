/**
 * How the public wire spells which requests an attachment of mechanism `http` wants (InterceptSpec fields 27 and 28).
 * A header filter is a name and a value; a value with a character that means something in a regular expression is one,
 * searched for anywhere. A path filter is `:path-equal:/x`, `:path-prefix:/x` or `:path-regex:x`; without a marker it is
 * equal. All headers must match, and one of the paths. The wire has no filter for methods: we use the name that
 * HTTP/2 has for it (RFC 9113 §8.3.1) as a header's. A peer that does not know it finds no such header in any request,
 * so that the application answers, and nobody gets more than was asked for.
 */
export interface FilterFields {
  readonly headerFilters: Readonly<Record<string, string>>;
  readonly pathFilters: readonly string[];
}

export type PathKind = 'equal' | 'prefix' | 'regex';
export interface PathFilter {
  readonly kind: PathKind;
  readonly value: string;
}

/** A request as far as filters look at it. `path` is without the query; `header` answers the first value of a name. */
export interface FilteredRequest {
  readonly method: string;
  readonly path: string;
  readonly header: (lowerCaseName: string) => string | undefined;
}

export const methodFilter = ':method';
const maxPatternLength = 1_024;
/** What Go's regexp.QuoteMeta escapes. */
const meta = /[\\.+*?()|[\]{}^$]/;

export function parsePathFilter(text: string): PathFilter {
  const match = /^:path-(equal|prefix|regex):(.*)$/s.exec(text);
  return match ? { kind: match[1] as PathKind, value: match[2] ?? '' } : { kind: 'equal', value: text };
}

export const serializePathFilter = ({ kind, value }: PathFilter): string => `:path-${kind}:${value}`;

export const isPattern = (headerValue: string): boolean => meta.test(headerValue);

/** One method as it is, several as a pattern. Empty: none. */
export const serializeMethods = (methods: readonly string[]): string =>
  methods.length > 1 ? `^(${methods.join('|')})$` : (methods[0] ?? '');

/** The methods of such a value; undefined when it is a pattern of another make. */
export function parseMethods(value: string): readonly string[] | undefined {
  const list = /^\^\(([A-Z|-]+)\)\$$/.exec(value)?.[1] ?? value;
  return /^[A-Z|-]+$/.test(list) ? list.split('|') : undefined;
}

export function hasFilters({ headerFilters, pathFilters }: FilterFields): boolean {
  return pathFilters.length > 0 || Object.keys(headerFilters).length > 0;
}

/** Equal for filters that want the same requests in the same words. */
export function filterKey({ headerFilters, pathFilters }: FilterFields): string {
  const headers = Object.entries(headerFilters).map(([name, value]) => [name.toLowerCase(), value]);
  const paths = pathFilters.map((each) => serializePathFilter(parsePathFilter(each)));
  return JSON.stringify([headers.sort(), paths.sort()]);
}

/** What is wrong with filters, in words for the person who wrote them; undefined when nothing is. */
export function filterFault({ headerFilters, pathFilters }: FilterFields): string | undefined {
  for (const [name, value] of Object.entries(headerFilters)) {
    // RFC 9110 §5.6.2: a field name is a token.
    if (name !== methodFilter && !/^[\w!#$%&'*+.^`|~-]{1,256}$/.test(name)) {
      return `${quoted(name)} is no name of a header`;
    }
    if (value === '' || value.length > maxPatternLength || /[\r\n\0]/.test(value)) {
      return `the value for header ${quoted(name)} is empty, too long or of several lines`;
    }
    if (isPattern(value) && !compiled(value)) {
      return `${quoted(value)} is no regular expression`;
    }
  }
  for (const { kind, value } of pathFilters.map(parsePathFilter)) {
    if (value === '' || value.length > maxPatternLength) {
      return 'a path is empty or too long';
    }
    if (kind !== 'regex' && !value.startsWith('/')) {
      return `the path ${quoted(value)} does not begin with a slash`;
    }
    if (kind === 'regex' && !compiled(value)) {
      return `${quoted(value)} is no regular expression`;
    }
  }
  return undefined;
}

/** Decides which requests are meant. A pattern that cannot be compiled matches nothing. */
export function requestMatcher({ headerFilters, pathFilters }: FilterFields): (request: FilteredRequest) => boolean {
  const headers = Object.entries(headerFilters).map(([name, value]) => ({
    name: name.toLowerCase(),
    matches: isPattern(value) ? patternMatcher(value) : (text: string) => text === value,
  }));
  const paths = pathFilters.map((each) => pathMatcher(parsePathFilter(each)));
  return ({ method, path, header }) =>
    headers.every(({ name, matches }) => matches((name === methodFilter ? method : header(name)) ?? '')) &&
    (paths.length === 0 || paths.some((matches) => matches(path)));
}

function pathMatcher({ kind, value }: PathFilter): (path: string) => boolean {
  switch (kind) {
    case 'equal':
      return (path) => path === value;
    case 'prefix':
      return (path) => path.startsWith(value);
    case 'regex':
      return patternMatcher(value);
  }
}

/** As the public matcher: an absent value never matches, and a pattern may match anywhere. */
function patternMatcher(pattern: string): (text: string) => boolean {
  const regex = compiled(pattern);
  return (text) => text !== '' && regex !== undefined && regex.test(text);
}

function compiled(pattern: string): RegExp | undefined {
  try {
    return pattern.length <= maxPatternLength ? new RegExp(pattern) : undefined;
  } catch {
    return undefined;
  }
}

const quoted = (text: string): string => `“${text.slice(0, 80)}”`;
