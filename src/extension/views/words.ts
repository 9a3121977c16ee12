import type {
  AttachMode,
  Attachment,
  ConnectorSnapshot,
  FilesView,
  LeftOutReason,
  RequestFilters,
  VolumeView,
  WorkloadView,
} from '../../connector/index.ts';
import { type PathFilter, parsePathFilter } from '../../protocol/index.ts';

/** Translates; the extension passes VS Code's, tests the identity. */
export type Translate = (text: string, ...values: (string | number)[]) => string;

/** Why an address of the cluster looks strange. */
export const translatedSentence = 'The subnet {0} has other addresses here, because of the route {1}.';

/** A workload's state in words: the ones that users of the field know. */
export function workloadState(workload: WorkloadView, snapshot: ConnectorSnapshot, t: Translate): string {
  const mine = attachmentsOf(workload, snapshot).map((each) => attachmentState(each, t));
  const others = othersOf(workload, snapshot);
  const all = [...mine, ...(others.length > 0 ? [t('intercepted by {0}', others.join(', '))] : [])];
  if (all.length > 0) {
    return all.join(' · ');
  }
  return workload.state === 'no-agent' ? t('ready to engage (traffic-agent not yet installed)') : t('ready to engage');
}

export const attachmentsOf = (
  { name, namespace }: Pick<WorkloadView, 'name' | 'namespace'>,
  { attachments }: ConnectorSnapshot,
): readonly Attachment[] => attachments.filter((each) => each.workload === name && each.namespace === namespace);

/** `user@host` of those who hold something of a workload beside what is held from here. */
export function othersOf(workload: WorkloadView, snapshot: ConnectorSnapshot): readonly string[] {
  const others = [...workload.interceptedBy];
  for (const { mode, state } of attachmentsOf(workload, snapshot)) {
    const at = mode === 'ingest' || state !== 'active' ? -1 : others.indexOf(snapshot.client ?? '');
    if (at >= 0) {
      others.splice(at, 1);
    }
  }
  return [...new Set(others)];
}

/** What one attachment does, with its filter: `intercepted by you on :3000 (x-user: ann)`. */
export function attachmentState(attachment: Attachment, t: Translate): string {
  const { state, mode, ports, message = '' } = attachment;
  if (state === 'waiting') {
    return t('waiting for the traffic-agent');
  }
  if (state === 'error') {
    return t('intercept failed: {0}', message);
  }
  const local = ports.map(({ localPort }) => localPort).join(', :');
  const filter = filterWords(attachment.filters, t);
  return `${doing(mode, local, t)}${filter ? ` (${filter})` : ''}`;
}

function doing(mode: AttachMode, local: string, t: Translate): string {
  switch (mode) {
    case 'intercept':
      return t('intercepted by you on :{0}', local);
    case 'wiretap':
      return t('tapped by you on :{0}', local);
    case 'replace':
      return t('replaced by you on :{0}', local);
    case 'ingest':
      return t('environment taken by you');
  }
}

/** Empty when all requests are meant. Names and values are the person's own words. */
export function filterWords({ headers = {}, paths = [], methods = [] }: RequestFilters, t: Translate): string {
  return [
    ...methods,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    ...paths.map((each) => pathWords(parsePathFilter(each), t)),
  ].join(', ');
}

function pathWords({ kind, value }: PathFilter, t: Translate): string {
  switch (kind) {
    case 'equal':
      return value;
    case 'prefix':
      return t('{0} and below', value);
    case 'regex':
      return t('path matches {0}', value);
  }
}

/** A volume a line, below the folder: what is here of it, and what is not. */
export const filesWords = ({ root, volumes }: FilesView, t: Translate): readonly string[] => [
  t('Volumes in {0}', root),
  ...volumes.map((each) => volumeWords(each, t)),
];

const leftOutInWords = 3;

function volumeWords({ path, kind, isReadOnly, leftOut, message }: VolumeView, t: Translate): string {
  const missing = leftOut
    .slice(0, leftOutInWords)
    .map((each) => `${each.path || path} (${leftOutWord(each.reason, t)})`);
  const more = leftOut.length - missing.length;
  return [
    `${path}: ${volumeKind(kind, isReadOnly, t)}`,
    ...(missing.length > 0 ? [t('without {0}', missing.join(', '))] : []),
    ...(more > 0 ? [t('and {0} more', more)] : []),
    ...(message ? [message] : []),
  ].join(', ');
}

function volumeKind(kind: VolumeView['kind'], isReadOnly: boolean, t: Translate): string {
  switch (kind) {
    case 'copy':
      return t('a copy, kept up to date; what is changed here does not reach the pod');
    case 'mount':
      return isReadOnly ? t('mounted, read-only') : t('mounted');
    case 'local':
      return t('an empty folder of this machine');
    case 'waiting':
      return t('not here yet');
  }
}

function leftOutWord(reason: LeftOutReason, t: Translate): string {
  switch (reason) {
    case 'unreadable':
      return t('the traffic-agent may not read it');
    case 'too-large':
      return t('too large for a copy');
    case 'too-many':
      return t('too many files for a copy');
    case 'too-deep':
      return t('too deep for a copy');
    case 'special':
      return t('neither file nor folder');
    case 'bad-name':
      return t('a name that is none');
    case 'linked-folder':
      return t('a link to a folder');
  }
}

/** `8080 → :3000`, one port after the other. */
export const portWords = ({ ports, container }: Attachment): string =>
  ports
    .map(({ remote, localPort, protocol }) => `${remote}${protocol === 'UDP' ? '/UDP' : ''} → :${localPort}`)
    .join(', ') || container;

export function modeWord(mode: AttachMode, t: Translate): string {
  switch (mode) {
    case 'intercept':
      return t('Intercept');
    case 'wiretap':
      return t('Wiretap');
    case 'replace':
      return t('Replace');
    case 'ingest':
      return t('Ingest');
  }
}

export interface StatusText {
  /** With a codicon in front. */
  readonly text: string;
  readonly spoken: string;
  readonly isError: boolean;
}

/** What the status bar says. */
export function statusText({ connection, target, attachments, health }: ConnectorSnapshot, t: Translate): StatusText {
  const where = `${target?.namespace ?? ''}@${target?.context ?? ''}`;
  switch (connection.state) {
    case 'disconnected':
      return { text: '$(plug) Nearfield', spoken: t('Nearfield is not connected'), isError: false };
    case 'connecting':
      return {
        text: `$(sync~spin) ${t(connection.step)}`,
        spoken: t('Nearfield is connecting: {0}', t(connection.step)),
        isError: false,
      };
    case 'connected': {
      const count = attachments.length > 0 ? ` · ${attachments.length}` : '';
      const icon = health.length > 0 ? '$(warning)' : '$(radio-tower)';
      const text = `${icon} ${t('connected {0}', where)}${count}`;
      return {
        text,
        spoken: t('Nearfield is connected to {0}, {1} attachments', where, attachments.length),
        isError: health.some((each) => each.severity === 'error'),
      };
    }
    case 'reconnecting':
      return {
        text: `$(sync~spin) ${t('reconnecting {0}', where)}`,
        spoken: t('Nearfield is reconnecting: {0}', connection.reason),
        isError: false,
      };
    case 'failed':
      return {
        text: `$(error) ${t('Nearfield: not connected')}`,
        spoken: t('Nearfield could not connect: {0}', connection.error.message),
        isError: true,
      };
  }
}
