/** In one `WatchNamespaces`; more are more calls. */
export const maxWatchedNamespaces = 500;
