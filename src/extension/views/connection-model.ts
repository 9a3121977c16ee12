import { type ConnectorSnapshot, proxyLacks } from '../../connector/index.ts';
import { type Translate, translatedSentence } from './words.ts';

export interface Row {
  readonly id: string;
  readonly label: string;
  readonly description: string;
  /** A codicon's name. */
  readonly icon: string;
}

/** The rows of the connection view; none while the welcome view explains what to do. */
export function connectionRows(snapshot: ConnectorSnapshot, t: Translate): Row[] {
  const { connection, target, daemon, proxy, manager, health } = snapshot;
  if (connection.state === 'disconnected' || connection.state === 'failed') {
    return [];
  }
  if (connection.state === 'connecting') {
    return [{ id: 'state', label: t('Connecting'), description: t(connection.step), icon: 'sync~spin' }];
  }
  const rows: Row[] = [
    {
      id: 'state',
      label: connection.state === 'connected' ? t('Connected') : t('Reconnecting'),
      description:
        connection.state === 'connected' ? `${target?.namespace ?? ''} @ ${target?.context ?? ''}` : connection.reason,
      icon: connection.state === 'connected' ? 'pass-filled' : 'sync~spin',
    },
    { id: 'kubernetes', label: t('Kubernetes'), description: target?.server ?? '', icon: 'server' },
    { id: 'daemon', label: t('Daemon'), description: daemonWords(daemon, t), icon: 'shield' },
  ];
  if (proxy) {
    rows.push(
      {
        id: 'proxy',
        label: t('Without root'),
        description: `SOCKS 5 ${proxy.socks} · HTTP ${proxy.http}`,
        icon: 'link',
      },
      ...proxyLacks.map((sentence) => ({ id: sentence, label: t(sentence), description: '', icon: 'info' })),
    );
  }
  if (daemon.dns) {
    rows.push({
      id: 'dns',
      label: t('DNS'),
      description: t(
        '{0} · {1} namespaces · {2} s',
        daemon.dns.localAddress,
        target?.mappedNamespaces.length ?? 0,
        daemon.dns.timeoutMs / 1000,
      ),
      icon: 'globe',
    });
  }
  if (manager) {
    rows.push({
      id: 'manager',
      label: t('Traffic Manager'),
      description: `${target?.managerNamespace ?? ''} · ${manager.name} ${manager.version}`,
      icon: 'radio-tower',
    });
  }
  return [
    ...rows,
    ...(snapshot.settings ?? []).map(({ name, value, from }) => ({
      id: `setting ${name} ${from}`,
      label: `${name}: ${value}`,
      description: from === 'cluster' ? t('from the owner of the cluster') : t('from your settings'),
      icon: 'settings-gear',
    })),
    ...(daemon.translated ?? []).map(({ subnet, route }) => ({
      id: `translated ${subnet}`,
      label: t(translatedSentence, subnet, route),
      description: '',
      icon: 'info',
    })),
    ...health.map((each) => ({
      id: each.name,
      label: t(each.sentence, ...(each.args ?? [])),
      description: '',
      icon: each.severity === 'error' ? 'error' : 'warning',
    })),
  ];
}

function daemonWords(daemon: ConnectorSnapshot['daemon'], t: Translate): string {
  switch (daemon.state) {
    case 'none':
      return t('not used');
    case 'gone':
      return t('has ended');
    case 'attached':
      return `${t('running')} · ${daemon.device ?? ''} · ${daemon.subnets.join(', ')}`;
  }
}

/** Everything of a row for the ear. */
export function spokenRow({ label, description }: Row): string {
  return description ? `${label}, ${description}` : label;
}
