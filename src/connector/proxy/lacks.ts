/** What a machine without the daemon does not get, for the person who wonders. The extension translates them. */
export const proxyLacks: readonly string[] = [
  'Only programs that use the proxies or the forwards reach the cluster.',
  'Other programs do not resolve the names of the cluster.',
  'UDP passes through SOCKS 5 only, and ping not at all.',
];
