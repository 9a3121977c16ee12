import { type ErrorCode, NearfieldError } from '../base/index.ts';

function failure(code: ErrorCode, reason: string, message: string, hint?: string, cause?: unknown): NearfieldError {
  return new NearfieldError(message, { code, reason, ...(hint === undefined ? {} : { hint }), cause });
}

export const managerMissing = (namespace: string): NearfieldError =>
  failure(
    'failed_precondition',
    'connector.manager-missing',
    `there is no traffic-manager in namespace ${namespace}`,
    'Install it, or name another manager namespace.',
  );

export const managerNotRunning = (namespace: string): NearfieldError =>
  failure(
    'unavailable',
    'connector.manager-not-running',
    `the traffic-manager in namespace ${namespace} has no running pod`,
    'Look at the pods of that namespace.',
  );

export const managerTooOld = (version: string): NearfieldError =>
  failure(
    'failed_precondition',
    'connector.manager-too-old',
    `the traffic-manager speaks version ${version}, and 2.20 is needed`,
    'Upgrade the traffic-manager.',
  );

export const tokenMissing = (): NearfieldError =>
  failure(
    'unauthenticated',
    'connector.token-missing',
    'the owner of this cluster wants to know who connects, and this context of the kubeconfig has no token (a client certificate cannot be shown to the traffic-manager)',
    'Use a context with a token, or name a service account whose tokens you may create in nearfield.serviceAccount.',
  );

export const tokenNotIssued = (account: string, cause: unknown): NearfieldError =>
  failure(
    'permission_denied',
    'connector.token-not-issued',
    `the cluster gives no token of the service account ${account}`,
    'It has to exist, and you need the verb create on serviceaccounts/token for it.',
    cause,
  );

export const notConnected = (): NearfieldError =>
  failure('failed_precondition', 'connector.not-connected', 'there is no connection to a cluster', 'Connect first.');

export const alreadyConnected = (): NearfieldError =>
  failure('failed_precondition', 'connector.already-connected', 'a connection exists already', 'Disconnect first.');

export const daemonUnreachable = (cause: unknown): NearfieldError =>
  failure(
    'unavailable',
    'connector.daemon-unreachable',
    'the Nearfield daemon does not answer',
    'Start it, and connect again.',
    cause,
  );

export const daemonGone = (): NearfieldError =>
  failure('unavailable', 'connector.daemon-gone', 'the Nearfield daemon has ended', 'Restart it with Connect.');

export const daemonRefused = (message: string): NearfieldError =>
  failure('failed_precondition', 'connector.daemon-refused', message);

export const interceptFailed = (message: string): NearfieldError =>
  failure('failed_precondition', 'connector.intercept-failed', message);

export const badAttachRequest = (message: string): NearfieldError =>
  failure('invalid_argument', 'connector.bad-attach-request', message);

export const ingestFailed = (message: string): NearfieldError =>
  failure('failed_precondition', 'connector.ingest-failed', message);

export const managerTooOldFor = (what: string, version: string, needed: string): NearfieldError =>
  failure(
    'failed_precondition',
    'connector.manager-too-old-for',
    `the traffic-manager speaks version ${version}, and ${what} need ${needed}`,
    'Upgrade the traffic-manager.',
  );

export const interceptTimedOut = (workload: string): NearfieldError =>
  failure(
    'deadline_exceeded',
    'connector.intercept-timed-out',
    `no traffic-agent of ${workload} took the intercept in time`,
    'Look at the pods of the workload.',
  );

export const noSuchAttachment = (name: string): NearfieldError =>
  failure('not_found', 'connector.no-such-attachment', `there is no attachment named ${name}`);

export const installFailed = (message: string, cause?: unknown): NearfieldError =>
  failure(
    'unavailable',
    'connector.install-failed',
    `the traffic-manager did not become ready: ${message}`,
    'Look at the pods of its namespace.',
    cause,
  );

export const badInstallOptions = (issues: readonly string[]): NearfieldError =>
  failure('invalid_argument', 'connector.bad-install-options', `the options are not right: ${issues.join('; ')}`);

const someOf = (names: readonly string[], count: number): string =>
  `${names.slice(0, count).join(', ')}${names.length > count ? ` and ${names.length - count} more` : ''}`;

export const foreignManager = (namespace: string, what: string): NearfieldError =>
  failure(
    'failed_precondition',
    'connector.foreign-manager',
    `${what} in namespace ${namespace} was not installed by Nearfield, and is not touched`,
    'Connect to it as it is, or choose another manager namespace.',
  );

export const managersOverlap = (namespace: string, shared: readonly string[]): NearfieldError =>
  failure(
    'failed_precondition',
    'connector.managers-overlap',
    `the traffic-manager in namespace ${namespace} already works in ${someOf(shared, 3)}`,
    'Connect to that one, or give each of the two its own namespaces in its options.',
  );

export const installedByHelm = (namespace: string): NearfieldError =>
  failure(
    'failed_precondition',
    'connector.installed-by-helm',
    `the traffic-manager in namespace ${namespace} was installed by Helm`,
    'Use helm upgrade or helm uninstall.',
  );

export const installConflict = (what: string, message: string, cause: unknown): NearfieldError =>
  failure(
    'aborted',
    'connector.install-conflict',
    `somebody else has set fields of ${what}: ${message}`,
    'Undo that change, or take these fields over.',
    cause,
  );

export const agentsRemain = (pods: readonly string[], why: string): NearfieldError =>
  failure(
    'failed_precondition',
    'connector.agents-remain',
    `traffic-agents remain in ${someOf(pods, 5)}${why ? `: ${why}` : ''}`,
    'Start the traffic-manager and try again, or remove the rest and restart these workloads.',
  );

export const uninstallRefused = (status: number): NearfieldError =>
  failure(
    'unavailable',
    'connector.uninstall-refused',
    `the traffic-manager answered ${status} when its agents were to be removed`,
    'Its log has the details.',
  );

export const installRunning = (): NearfieldError =>
  failure(
    'failed_precondition',
    'connector.install-running',
    'an installation is under way',
    'Wait for it, or cancel it.',
  );

export const workerEnded = (): NearfieldError =>
  failure(
    'internal',
    'connector.worker-ended',
    'the connector ended unexpectedly',
    'Connect again; the log has the details.',
  );

export const badRequest = (message: string): NearfieldError =>
  failure('invalid_argument', 'connector.bad-request', message);

export const peerReset = (): NearfieldError =>
  failure('unavailable', 'connector.peer-reset', 'the other side broke the connection off');

export const badForward = (text: string): NearfieldError =>
  failure(
    'invalid_argument',
    'connector.bad-forward',
    `${text.slice(0, 100)} is no forward`,
    'Write local port:host:port, for example 8081:service-a.service-a-ns:8080.',
  );

export const portTaken = (address: string, cause: unknown): NearfieldError =>
  failure('already_exists', 'connector.port-taken', `${address} cannot be listened on`, 'Choose another port.', cause);

export const filesLost = (): NearfieldError =>
  failure('unavailable', 'connector.files-lost', 'the connection to the files of the pod broke');

export const filesRefused = (code: ErrorCode, message: string): NearfieldError =>
  failure(code, 'connector.files-refused', `the traffic-agent does not give the file: ${message.slice(0, 200)}`);

export const mountFolderTaken = (path: string): NearfieldError =>
  failure(
    'already_exists',
    'connector.mount-folder-taken',
    `${path} is there already and is no empty folder`,
    'Name an empty folder, or one that does not exist.',
  );

export const mountFailed = (path: string, why: string): NearfieldError =>
  failure('unavailable', 'connector.mount-failed', `the volume ${path} could not be mounted: ${why}`);
