/** Every name that the manifest and the code share. A test compares them with package.json. */
export const commandId = {
  connect: 'nearfield.connect',
  disconnect: 'nearfield.disconnect',
  switchNamespace: 'nearfield.switchNamespace',
  interceptToDebugSession: 'nearfield.interceptToDebugSession',
  interceptWithFilter: 'nearfield.interceptWithFilter',
  wiretap: 'nearfield.wiretap',
  replace: 'nearfield.replace',
  ingest: 'nearfield.ingest',
  leave: 'nearfield.leave',
  install: 'nearfield.install',
  uninstall: 'nearfield.uninstall',
  installService: 'nearfield.installService',
  removeService: 'nearfield.removeService',
  showLog: 'nearfield.showLog',
  showActions: 'nearfield.showActions',
} as const;

export const viewId = {
  connection: 'nearfield.connection',
  cluster: 'nearfield.cluster',
} as const;

export const contextKey = {
  /** disconnected, connecting, connected, reconnecting or failed. */
  state: 'nearfield.state',
  /** The reason of the last failure. */
  reason: 'nearfield.reason',
} as const;

export const settingId = {
  kubeconfig: 'nearfield.kubeconfig',
  context: 'nearfield.context',
  namespace: 'nearfield.namespace',
  managerNamespace: 'nearfield.managerNamespace',
  serviceAccount: 'nearfield.serviceAccount',
  image: 'nearfield.image',
  installOptions: 'nearfield.installOptions',
  elevation: 'nearfield.elevation',
  mount: 'nearfield.mount',
  alsoProxy: 'nearfield.network.alsoProxy',
  neverProxy: 'nearfield.network.neverProxy',
  allowConflicting: 'nearfield.network.allowConflicting',
  translateConflicts: 'nearfield.network.translateConflicts',
  virtualSubnet: 'nearfield.network.virtualSubnet',
  mappedNamespaces: 'nearfield.network.mappedNamespaces',
  includeSuffixes: 'nearfield.dns.includeSuffixes',
  excludeSuffixes: 'nearfield.dns.excludeSuffixes',
  excludes: 'nearfield.dns.excludes',
  mappings: 'nearfield.dns.mappings',
  timeoutMs: 'nearfield.dns.timeoutMs',
} as const;

export const statusBarId = 'nearfield.status';
/** The attribute in launch configurations of any debugger. */
export const launchAttribute = 'nearfield';
