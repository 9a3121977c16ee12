/**
 * The one error class of the project. Codes are gRPC's, so that nothing is lost on the wire; a reason is a
 * stable dotted name from the room's `errors.ts`; the hint says what a person can do now.
 */
export const errorCodes = [
  'cancelled',
  'unknown',
  'invalid_argument',
  'deadline_exceeded',
  'not_found',
  'already_exists',
  'permission_denied',
  'resource_exhausted',
  'failed_precondition',
  'aborted',
  'out_of_range',
  'unimplemented',
  'internal',
  'unavailable',
  'data_loss',
  'unauthenticated',
] as const;

export type ErrorCode = (typeof errorCodes)[number];

export interface ErrorFields {
  readonly code: ErrorCode;
  /** Stable dotted name, e.g. `intercept.port-already-taken`. Listed in docs/errors.md. */
  readonly reason: string;
  /** What the person can do now. */
  readonly hint?: string;
  /** The original failure: for the log only, never sent over a wire. */
  readonly cause?: unknown;
}

export class NearfieldError extends Error {
  readonly code: ErrorCode;
  readonly reason: string;
  readonly hint: string | undefined;

  constructor(message: string, fields: ErrorFields) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.name = 'NearfieldError';
    this.code = fields.code;
    this.reason = fields.reason;
    this.hint = fields.hint;
  }
}

/** Turns anything that was thrown into our error; ours pass through unchanged. */
export function toError(thrown: unknown): NearfieldError {
  if (thrown instanceof NearfieldError) {
    return thrown;
  }
  if (thrown instanceof Error && (thrown.name === 'AbortError' || thrown.name === 'TimeoutError')) {
    const code = thrown.name === 'AbortError' ? 'cancelled' : 'deadline_exceeded';
    return new NearfieldError(thrown.message, { code, reason: `base.${code}`, cause: thrown });
  }
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new NearfieldError(message, { code: 'unknown', reason: 'base.unexpected', cause: thrown });
}

/** True when `thrown` carries this reason; works across bundles and realms, unlike `instanceof`. */
export function isReason(thrown: unknown, reason: string): boolean {
  return typeof thrown === 'object' && thrown !== null && (thrown as { reason?: unknown }).reason === reason;
}

/** What crosses a process boundary: never the cause, never a stack. */
export interface PlainError {
  readonly message: string;
  readonly code: ErrorCode;
  readonly reason: string;
  readonly hint?: string;
}

export function toPlainError(thrown: unknown): PlainError {
  const { message, code, reason, hint } = toError(thrown);
  return hint === undefined ? { message, code, reason } : { message, code, reason, hint };
}

export function fromPlainError(plain: PlainError): NearfieldError {
  const { message, code, reason, hint } = plain;
  return new NearfieldError(message, hint === undefined ? { code, reason } : { code, reason, hint });
}

/** The exhaustiveness check that ends each `switch` over a union. */
export function unreachable(value: never): never {
  throw new NearfieldError(`unexpected value ${String(value)}`, { code: 'internal', reason: 'base.unreachable' });
}
