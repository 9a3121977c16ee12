import { type ErrorCode, NearfieldError } from '../base/index.ts';

function failure(code: ErrorCode, reason: string, message: string, hint?: string): NearfieldError {
  return new NearfieldError(message, hint === undefined ? { code, reason } : { code, reason, hint });
}

/** Stock clients since 2.25 know by the first two words that we have forgotten them, and come back before they ask again. */
export const noSuchSession = (id: string): NearfieldError =>
  failure('not_found', 'manager.no-such-session', `Client session ${id.slice(0, 60)} is not known`);

export const badRequest = (what: string): NearfieldError => failure('invalid_argument', 'manager.bad-request', what);

export const noSuchWorkload = (name: string, namespace: string): NearfieldError =>
  failure('not_found', 'manager.no-such-workload', `there is no workload ${name} in namespace ${namespace}`);

export const notManaged = (namespace: string): NearfieldError =>
  failure(
    'failed_precondition',
    'manager.not-managed',
    `the traffic-manager does not work in namespace ${namespace}: its labels are not among those of the installation`,
    'Ask the owner of the cluster to label the namespace, or to change namespaceSelector.',
  );

export const notInterceptable = (name: string): NearfieldError =>
  failure(
    'failed_precondition',
    'manager.not-interceptable',
    `${name} must not get a traffic-agent: its annotation says so`,
  );

export const isTheManager = (): NearfieldError =>
  failure('failed_precondition', 'manager.is-the-manager', 'the traffic-manager cannot be intercepted');

export const agentPortTaken = (workload: string, port: number): NearfieldError =>
  failure(
    'failed_precondition',
    'manager.agent-port-taken',
    `${workload} declares container port ${port}, which the traffic-agent needs`,
  );

export const podIsEnding = (pod: string): NearfieldError =>
  failure('aborted', 'manager.pod-is-ending', `pod ${pod} is ending`);

export const noServicePort = (workload: string, port: string): NearfieldError =>
  failure(
    'not_found',
    'manager.no-service-port',
    port
      ? `no service port ${port} leads to ${workload}, and no container of it declares one`
      : `no service leads to ${workload}, and its containers declare no port`,
    'Name a port of a service whose selector matches the pods, or one that a container declares.',
  );

export const ambiguousPort = (workload: string, ports: readonly string[]): NearfieldError =>
  failure(
    'invalid_argument',
    'manager.ambiguous-port',
    `${workload} has several service ports: ${ports.join(', ')}`,
    'Name one of them.',
  );

export const redirectForbidden = (workload: string, port: string, level: string): NearfieldError =>
  failure(
    'failed_precondition',
    'manager.redirect-forbidden',
    `port ${port} of ${workload} is called by its number, and the Pod Security level ${level} of the namespace admits nothing that could redirect it`,
    'Give the container port a name, and let the targetPort of a service that is not headless be that name.',
  );

export const redirectFailed = (workload: string, why: string): NearfieldError =>
  failure(
    'failed_precondition',
    'manager.redirect-failed',
    `the ports of ${workload} could not be redirected to its traffic-agent: ${why}`,
    'Give the container port a name, and let the targetPort of a service that is not headless be that name.',
  );

export const isOnHostNetwork = (workload: string): NearfieldError =>
  failure(
    'failed_precondition',
    'manager.host-network',
    `the pods of ${workload} are in the network of their nodes, where a traffic-agent would take ports of the node`,
    'Take hostNetwork out of the pod template, or attach to another workload.',
  );

export const badAnnotation = (workload: string, name: string, value: string): NearfieldError =>
  failure(
    'failed_precondition',
    'manager.bad-annotation',
    `the annotation ${name} of ${workload} is not right: ${value.slice(0, 60)}`,
    'Correct it in the pod template; docs/modes.md lists what it may be.',
  );

export const injectionOff = (workload: string, policy: string): NearfieldError =>
  failure(
    'failed_precondition',
    'manager.injection-off',
    `${workload} gets no traffic-agent: the installation injects ${policy === 'Never' ? 'none' : 'only where the annotation asks for it'}`,
    policy === 'Never'
      ? 'Install the traffic-manager with another agentInjector.injectPolicy.'
      : 'Annotate the pod template with telepresence.io/inject-traffic-agent: enabled.',
  );

export const evictionRefused = (workload: string, pod: string): NearfieldError =>
  failure(
    'failed_precondition',
    'manager.eviction-refused',
    `a disruption budget does not let pod ${pod} of ${workload} be re-created with a traffic-agent`,
    'Let the PodDisruptionBudget allow one disruption while you attach, or add a replica.',
  );

export const portAlreadyIntercepted = (port: string, client: string, name: string): NearfieldError =>
  failure(
    'already_exists',
    'manager.port-already-intercepted',
    `container port ${port.replace('/TCP', '')} is already intercepted by ${client}, intercept ${name}`,
  );

export const interceptExists = (name: string): NearfieldError =>
  failure('already_exists', 'manager.intercept-exists', `an intercept named ${name} already exists`);

export const noSuchIntercept = (name: string): NearfieldError =>
  failure('not_found', 'manager.no-such-intercept', `there is no intercept named ${name}`);

export const agentDidNotArrive = (workload: string, why: string): NearfieldError =>
  failure(
    'deadline_exceeded',
    'manager.agent-did-not-arrive',
    `no traffic-agent of ${workload} arrived in time${why ? `: ${why}` : ''}`,
  );

export const unsupported = (what: string): NearfieldError =>
  failure('unimplemented', 'manager.unsupported', `${what} is not supported`);

export const notItsPod = (): NearfieldError =>
  failure('permission_denied', 'manager.not-its-pod', 'an agent calls from the address of its own pod only');

export const tooManySessions = (): NearfieldError =>
  failure(
    'resource_exhausted',
    'manager.too-many-sessions',
    'the traffic-manager has as many sessions as it can hold',
    'Try again later, or ask who else is connected: a stock client keeps its session for a day.',
  );

export const tooManyIntercepts = (limit: number): NearfieldError =>
  failure(
    'resource_exhausted',
    'manager.too-many-intercepts',
    `a session holds at most ${limit} intercepts`,
    'Leave some of them first.',
  );

export const tokenRequired = (): NearfieldError =>
  failure(
    'unauthenticated',
    'manager.token-required',
    'this traffic-manager serves only callers that prove who they are, and this call came without a token',
    'Use a context of the kubeconfig that has a token, or set nearfield.serviceAccount; other clients do it from release 2.31 on.',
  );

export const tokenRejected = (): NearfieldError =>
  failure(
    'unauthenticated',
    'manager.token-rejected',
    'the cluster does not accept the token',
    'It may have expired: log in to the cluster again.',
  );

export const notYourSession = (): NearfieldError =>
  failure(
    'permission_denied',
    'manager.not-your-session',
    'the session belongs to somebody else',
    'Connect again; a session is for whoever opened it.',
  );

export const notPermitted = (
  user: string,
  verb: string,
  what: string,
  namespace: string,
  name?: string,
): NearfieldError =>
  failure(
    'permission_denied',
    'manager.not-permitted',
    `${user} may not ${verb} ${what}${name ? ` of ${name}` : ''} in namespace ${namespace}`,
    `Ask the owner of the cluster for the verb ${verb} on ${what}.nearfield.dev there.`,
  );

export const tooManyReviews = (): NearfieldError =>
  failure(
    'unavailable',
    'manager.busy',
    'the traffic-manager asks the API server about too many callers at once',
    'Try again in a moment.',
  );

export const wholePortForbidden = (): NearfieldError =>
  failure(
    'permission_denied',
    'manager.whole-port-forbidden',
    'the owner of this cluster does not allow to take all requests of a port',
    'Say which ones are meant, by a header or a path; or use a wiretap, which takes nothing away.',
  );

export const replaceForbidden = (): NearfieldError =>
  failure(
    'permission_denied',
    'manager.replace-forbidden',
    'the owner of this cluster does not allow to replace containers',
    'Intercept the requests that you need instead.',
  );

export const notAmongAllowed = (user: string, workload: string, namespace: string): NearfieldError =>
  failure(
    'permission_denied',
    'manager.not-among-allowed',
    `the owner of this cluster does not let ${user} attach to ${workload} in namespace ${namespace}`,
    'Ask the owner for a rule in intercept.allowed that includes it.',
  );

export const badPolicy = (what: string): NearfieldError =>
  failure('invalid_argument', 'manager.bad-policy', `the policy cannot be read: ${what}`);
