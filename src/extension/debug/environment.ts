type Environment = Readonly<Record<string, string>>;
type Configuration = Readonly<Record<string, unknown>>;

/** Belongs to this machine: the container's value would break the program here. */
const machineKeys = new Set([
  'PATH',
  'HOME',
  'HOSTNAME',
  'USER',
  'SHELL',
  'PWD',
  'TMPDIR',
  'LD_LIBRARY_PATH',
  'NODE_OPTIONS',
]);

/**
 * The container's environment, with the variables that lead through the proxies where there is no daemon. Those win:
 * the container's own proxy is not reached from here, and its `NO_PROXY` would keep the cluster's services out.
 */
export function withProxy(cluster: Environment, proxy: Environment): Environment {
  return { ...cluster, ...proxy };
}

/**
 * The container's environment into a launch configuration, in the property that its debugger reads. What the launch
 * configuration says itself wins; keys are left out, never set empty.
 */
export function withEnvironment<C extends Configuration>(
  configuration: C,
  cluster: Environment,
  exclude: readonly string[],
): C {
  const wanted = Object.entries(cluster).filter(([key]) => !machineKeys.has(key) && !exclude.includes(key));
  switch (configuration.type) {
    case 'cppdbg':
    case 'cppvsdbg': {
      const own = Array.isArray(configuration.environment) ? (configuration.environment as { name: string }[]) : [];
      const names = new Set(own.map(({ name }) => name));
      const added = wanted.filter(([name]) => !names.has(name)).map(([name, value]) => ({ name, value }));
      return { ...configuration, environment: [...added, ...own] };
    }
    case 'lldb-dap': {
      if (Array.isArray(configuration.env)) {
        const own = configuration.env as string[];
        const names = new Set(own.map((each) => each.split('=')[0]));
        return {
          ...configuration,
          env: [...wanted.filter(([name]) => !names.has(name)).map(([name, value]) => `${name}=${value}`), ...own],
        };
      }
      const own = (configuration.env ?? {}) as Environment;
      return {
        ...configuration,
        env: Object.entries({ ...Object.fromEntries(wanted), ...own }).map(([name, value]) => `${name}=${value}`),
      };
    }
    default:
      return {
        ...configuration,
        env: { ...Object.fromEntries(wanted), ...((configuration.env ?? {}) as Environment) },
      };
  }
}
