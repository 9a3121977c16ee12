import type { SidecarConfig, SidecarPort, wire } from '../../protocol/index.ts';

export interface PlacedPort {
  readonly container: string;
  readonly port: SidecarPort;
  /** On the developer's machine. */
  readonly localPort: number;
}

/**
 * The ports of this pod that an intercept wants: its own, found by container port and protocol, and its further ones
 * (`podPorts`), found by the name or number of a container's or a service's port. What is not here is left out.
 */
export function portsOf(config: SidecarConfig, spec: wire.InterceptSpec): readonly PlacedPort[] {
  const protocol = spec.protocol || 'TCP';
  const found = new Map<SidecarPort, PlacedPort>();
  const add = (localPort: number, fits: (port: SidecarPort) => boolean): void => {
    for (const container of config.containers) {
      const port = container.intercepts.find(fits);
      if (port) {
        if (!found.has(port)) {
          found.set(port, { container: container.name, port, localPort });
        }
        return;
      }
    }
  };
  if (spec.containerPort !== 0) {
    add(spec.targetPort, (port) => port.containerPort === spec.containerPort && (port.protocol ?? 'TCP') === protocol);
  }
  for (const { name, localPort, protocol: wanted } of spec.podPorts.map(parsePodPort).filter((each) => !!each)) {
    add(
      localPort,
      (port) =>
        (port.protocol ?? 'TCP') === wanted &&
        [port.containerPort, port.containerPortName, port.servicePortName].some((each) => String(each) === name),
    );
  }
  return [...found.values()];
}

interface PodPort {
  readonly name: string;
  readonly localPort: number;
  readonly protocol: 'TCP' | 'UDP';
}

/** `<name or number>[:<local port>][/TCP or /UDP]`; a name alone has no local port and is left out. */
export function parsePodPort(text: string): PodPort | undefined {
  const match = /^([a-z\d-]{1,63})(?::(\d{1,5}))?(?:\/(TCP|UDP))?$/i.exec(text);
  const [, name = '', local = name, protocol = 'TCP'] = match ?? [];
  const localPort = Number(local);
  return match && localPort > 0 && localPort < 65_536
    ? { name, localPort, protocol: protocol.toUpperCase() === 'UDP' ? 'UDP' : 'TCP' }
    : undefined;
}
