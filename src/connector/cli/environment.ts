import { badRequest } from '../errors.ts';

type Environment = Readonly<Record<string, string>>;

/** Ways to write an environment down; the names are those of the public client. */
export const environmentSyntaxes = ['compose', 'docker', 'sh', 'sh:export', 'json'] as const;
export type EnvironmentSyntax = (typeof environmentSyntaxes)[number];

const isSyntax = (text: string): text is EnvironmentSyntax => environmentSyntaxes.includes(text as EnvironmentSyntax);

/** `compose` is read by Docker Compose and by everything that reads `.env` files. Errors: `connector.bad-request`. */
export function readSyntax(text: string | undefined): EnvironmentSyntax {
  const syntax = text ?? 'compose';
  if (!isSyntax(syntax)) {
    throw badRequest(`--env-syntax is one of ${environmentSyntaxes.join(', ')}`);
  }
  return syntax;
}

/** Sorted by name, one variable a line. Errors: `connector.bad-request` for a value that the syntax cannot hold. */
export function writeEnvironment(environment: Environment, syntax: EnvironmentSyntax): string {
  const entries = Object.entries(environment).sort(([a], [b]) => (a < b ? -1 : 1));
  if (syntax === 'json') {
    return `${JSON.stringify(Object.fromEntries(entries), undefined, 2)}\n`;
  }
  return entries.map(([name, value]) => `${lineOf(name, value, syntax)}\n`).join('');
}

function lineOf(name: string, value: string, syntax: Exclude<EnvironmentSyntax, 'json'>): string {
  switch (syntax) {
    case 'docker':
      // docker run --env-file takes a line as it is, so that no quoting is possible.
      if (/[\r\n]/.test(value)) {
        throw badRequest(`the value of ${name} has several lines, which the syntax docker cannot hold`);
      }
      return `${name}=${value}`;
    case 'compose':
      return `${name}=${composeQuoted(value)}`;
    case 'sh':
      return `${name}=${shellQuoted(value)}`;
    case 'sh:export':
      return `export ${name}=${shellQuoted(value)}`;
  }
}

/** Single quotes keep everything as it is, `$` too; what they cannot hold is escaped in double quotes. */
function composeQuoted(value: string): string {
  if (/^[\w./:@%+,-]*$/.test(value)) {
    return value;
  }
  if (!/['\r\n\t\\]/.test(value)) {
    return `'${value}'`;
  }
  const escaped = value
    .replace(/[\\"$]/g, '\\$&')
    .replaceAll('\n', '\\n')
    .replaceAll('\r', '\\r')
    .replaceAll('\t', '\\t');
  return `"${escaped}"`;
}

/** POSIX shell, 2.2.2: nothing is special between single quotes but their end. */
const shellQuoted = (value: string): string =>
  /^[\w./:@%+,-]+$/.test(value) ? value : `'${value.replaceAll("'", `'\\''`)}'`;
