import { type ErrorCode, errorCodes, NearfieldError, toError } from '../base/index.ts';

export function streamBroken(why: string, cause?: unknown): NearfieldError {
  return new NearfieldError(`the tunnel stream broke: ${why}`, {
    code: 'unavailable',
    reason: 'protocol.stream-broken',
    cause,
  });
}

export function malformedStream(why: string): NearfieldError {
  return new NearfieldError(`the peer sent a malformed tunnel stream: ${why}`, {
    code: 'invalid_argument',
    reason: 'protocol.malformed',
  });
}

export function callRefused(code: ErrorCode, message: string): NearfieldError {
  return new NearfieldError(message || `the peer refused the call (${code})`, {
    code,
    reason: 'protocol.call-refused',
  });
}

export function noHttp2Session(cause?: unknown): NearfieldError {
  return new NearfieldError('the connection to the peer could not be opened', {
    code: 'unavailable',
    reason: 'protocol.no-session',
    hint: 'Check that the traffic-manager is running and reachable.',
    cause,
  });
}

/** gRPC numbers its codes 1 to 16 in the order of our names. */
export function errorCodeFromGrpc(status: number): ErrorCode {
  return errorCodes[status - 1] ?? 'unknown';
}

/** What a gRPC library throws, as our error: the code survives, the text is the peer's. */
export function errorOfConnect(what: string, thrown: unknown): NearfieldError {
  if (thrown instanceof NearfieldError || typeof thrown !== 'object' || thrown === null || !('rawMessage' in thrown)) {
    return toError(thrown);
  }
  const { code, rawMessage } = thrown as { code?: unknown; rawMessage?: unknown };
  return new NearfieldError(String(rawMessage) || what, {
    code: errorCodeFromGrpc(Number(code)),
    reason: 'protocol.call-refused',
    cause: thrown,
  });
}
