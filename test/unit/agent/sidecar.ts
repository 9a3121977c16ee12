import type { SidecarConfig } from '../../../src/protocol/index.ts';

export const sidecarConfig = (containerPort = 8080): SidecarConfig => ({
  agentName: 'web',
  namespace: 'shop',
  workloadName: 'web',
  workloadKind: 'Deployment',
  managerHost: 'traffic-manager.ambassador',
  managerPort: 8081,
  containers: [
    {
      name: 'server',
      envPrefix: 'A_',
      intercepts: [{ containerPortName: 'http', protocol: 'TCP', containerPort, agentPort: 9900 }],
    },
  ],
});
