import { type ErrorCode, NearfieldError } from '../base/index.ts';

export function noKubeconfig(cause?: unknown): NearfieldError {
  return new NearfieldError('no kubeconfig was found', {
    code: 'failed_precondition',
    reason: 'kube.no-kubeconfig',
    hint: 'Set KUBECONFIG, create ~/.kube/config, or name a file in the setting nearfield.kubeconfig.',
    cause,
  });
}

export function badKubeconfig(path: string, cause: unknown): NearfieldError {
  return new NearfieldError(`the kubeconfig ${path} cannot be read`, {
    code: 'invalid_argument',
    reason: 'kube.bad-kubeconfig',
    hint: 'Try it with kubectl; the log has the details.',
    cause,
  });
}

export function noSuchContext(context: string): NearfieldError {
  return new NearfieldError(`the kubeconfig has no context ${context}`, {
    code: 'not_found',
    reason: 'kube.no-such-context',
    hint: 'Choose another context.',
  });
}

export function unreachable(server: string, cause: unknown): NearfieldError {
  return new NearfieldError(`the Kubernetes API server ${server} cannot be reached`, {
    code: 'unavailable',
    reason: 'kube.unreachable',
    hint: 'Check the network, the VPN or the tunnel to the cluster.',
    cause,
  });
}

export function forbidden(message: string): NearfieldError {
  return new NearfieldError(message, {
    code: 'permission_denied',
    reason: 'kube.forbidden',
    hint: 'Ask the owner of the cluster for this right.',
  });
}

export function unauthorized(server: string): NearfieldError {
  return new NearfieldError(`${server} does not accept the credentials of this context`, {
    code: 'unauthenticated',
    reason: 'kube.unauthorized',
    hint: 'Log in to the cluster again.',
  });
}

export function apiFailure(status: number, message: string): NearfieldError {
  return new NearfieldError(message, { code: codeOfStatus(status), reason: `kube.status-${status}` });
}

export function forwardFailed(pod: string, message: string, cause?: unknown): NearfieldError {
  return new NearfieldError(`the port-forward to pod ${pod} failed: ${message}`, {
    code: 'unavailable',
    reason: 'kube.forward-failed',
    hint: 'Check that the pod runs and that you may create pods/portforward.',
    cause,
  });
}

function codeOfStatus(status: number): ErrorCode {
  const codes: Record<number, ErrorCode> = {
    400: 'invalid_argument',
    404: 'not_found',
    409: 'already_exists',
    410: 'out_of_range',
    422: 'invalid_argument',
    429: 'resource_exhausted',
    503: 'unavailable',
    504: 'deadline_exceeded',
  };
  return codes[status] ?? 'unknown';
}
