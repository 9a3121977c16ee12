import type { ConnectorSnapshot, WorkloadView } from '../../connector/index.ts';

/** Translates; the extension passes VS Code's, tests the identity. */
export type Translate = (text: string, ...values: (string | number)[]) => string;

/** Why an address of the cluster looks strange. */
export const translatedSentence = 'The subnet {0} has other addresses here, because of the route {1}.';

/** A workload's state in words: the ones that users of the field know. */
export function workloadState(workload: WorkloadView, snapshot: ConnectorSnapshot, t: Translate): string {
  const mine = snapshot.attachments.find(
    (each) => each.workload === workload.name && each.namespace === workload.namespace,
  );
  if (mine?.state === 'active') {
    return t('intercepted by you on :{0}', mine.localPort);
  }
  if (mine) {
    return mine.state === 'waiting'
      ? t('waiting for the traffic-agent')
      : t('intercept failed: {0}', mine.message ?? '');
  }
  if (workload.state === 'intercepted') {
    return t('intercepted by {0}', workload.interceptedBy.join(', '));
  }
  return workload.state === 'installed' ? t('ready to engage') : t('ready to engage (traffic-agent not yet installed)');
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
