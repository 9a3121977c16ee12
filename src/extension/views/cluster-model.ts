import type { Attachment, ConnectorSnapshot, ServiceView, WorkloadView } from '../../connector/index.ts';
import {
  attachmentState,
  attachmentsOf,
  filesWords,
  modeWord,
  othersOf,
  portWords,
  type Translate,
  workloadState,
} from './words.ts';

export type ClusterNode =
  | { readonly type: 'namespace'; readonly id: string; readonly name: string }
  | {
      readonly type: 'group';
      readonly id: string;
      readonly namespace: string;
      readonly group: 'workloads' | 'services';
    }
  | { readonly type: 'workload'; readonly id: string; readonly workload: WorkloadView }
  | { readonly type: 'attachment'; readonly id: string; readonly attachment: Attachment }
  /** Somebody else who holds something of a workload. */
  | { readonly type: 'holder'; readonly id: string; readonly client: string }
  | { readonly type: 'service'; readonly id: string; readonly namespace: string; readonly service: ServiceView };

export interface NodeText {
  readonly label: string;
  readonly description: string;
  readonly icon: string;
  /** Tokens that menus ask for: `workload deployment attached`. */
  readonly context: string;
  readonly isExpandable: boolean;
  readonly isExpanded: boolean;
  /** Below label and description, where one looks closer. */
  readonly details?: readonly string[];
}

const modeIcons = { intercept: 'debug-alt', wiretap: 'eye', replace: 'replace', ingest: 'symbol-variable' } as const;

/** The children of a node, or the namespaces. Pure: the tree draws what this says. */
export function clusterChildren(snapshot: ConnectorSnapshot, node: ClusterNode | undefined): ClusterNode[] {
  if (!node) {
    return snapshot.namespaces.map(({ name }) => ({ type: 'namespace', id: name, name }));
  }
  if (node.type === 'namespace') {
    return (['workloads', 'services'] as const).map((group) => ({
      type: 'group',
      id: `${node.name}/${group}`,
      namespace: node.name,
      group,
    }));
  }
  if (node.type === 'workload') {
    // The snapshot's own workload: the node may be older.
    const { workload } = node;
    return [
      ...attachmentsOf(workload, snapshot).map(
        (attachment): ClusterNode => ({ type: 'attachment', id: `${node.id}/mine/${attachment.name}`, attachment }),
      ),
      ...othersOf(workload, snapshot).map(
        (client): ClusterNode => ({ type: 'holder', id: `${node.id}/holder/${client}`, client }),
      ),
    ];
  }
  if (node.type !== 'group') {
    return [];
  }
  const found = snapshot.namespaces.find(({ name }) => name === node.namespace);
  return node.group === 'workloads'
    ? (found?.workloads ?? []).map((workload) => ({
        type: 'workload',
        id: `${node.id}/${workload.kind}/${workload.name}`,
        workload,
      }))
    : (found?.services ?? []).map((service) => ({
        type: 'service',
        id: `${node.id}/${service.name}`,
        namespace: node.namespace,
        service,
      }));
}

export function clusterText(snapshot: ConnectorSnapshot, node: ClusterNode, t: Translate): NodeText {
  switch (node.type) {
    case 'namespace': {
      const isConnected = node.name === snapshot.target?.namespace;
      return {
        label: node.name,
        description: isConnected ? t('connected') : '',
        icon: 'symbol-namespace',
        context: isConnected ? 'namespace connected' : 'namespace',
        isExpandable: true,
        isExpanded: isConnected,
      };
    }
    case 'group':
      return {
        label: node.group === 'workloads' ? t('Workloads') : t('Services'),
        description: '',
        icon: node.group === 'workloads' ? 'layers' : 'plug',
        context: node.group,
        isExpandable: true,
        isExpanded: node.group === 'workloads',
      };
    case 'workload': {
      const { workload } = node;
      const mine = attachmentsOf(workload, snapshot).length > 0;
      const isHeld = mine || othersOf(workload, snapshot).length > 0;
      return {
        label: workload.name,
        description: `${workload.kind.toLowerCase()} · ${workloadState(workload, snapshot, t)}`,
        icon: mine ? 'debug-alt' : isHeld ? 'lock' : 'circle-outline',
        context: ['workload', workload.kind.toLowerCase(), ...(mine ? ['attached', 'mine'] : [])].join(' '),
        isExpandable: isHeld,
        isExpanded: false,
      };
    }
    case 'attachment': {
      const { attachment } = node;
      return {
        label: `${modeWord(attachment.mode, t)} ${portWords(attachment)}`,
        description: attachmentState(attachment, t),
        icon: attachment.state === 'error' ? 'error' : modeIcons[attachment.mode],
        context: `attachment ${attachment.mode} own`,
        isExpandable: false,
        isExpanded: false,
        ...(attachment.files ? { details: filesWords(attachment.files, t) } : {}),
      };
    }
    case 'holder':
      return {
        label: node.client,
        description: t('is attached too'),
        icon: 'account',
        context: 'holder',
        isExpandable: false,
        isExpanded: false,
      };
    case 'service':
      return {
        label: node.service.name,
        description: node.service.ports
          .map(
            ({ name, port, protocol }) => `${name ? `${name} ` : ''}${port}${protocol === 'TCP' ? '' : `/${protocol}`}`,
          )
          .join(', '),
        icon: 'symbol-interface',
        context: 'service',
        isExpandable: false,
        isExpanded: false,
      };
  }
}
