import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { wire } from '../../../src/protocol/index.ts';

/** Messages of the wire as peers would send them. */
export const clientInfo = (more: MessageInitShape<typeof wire.ClientInfoSchema> = {}): wire.ClientInfo =>
  create(wire.ClientInfoSchema, {
    name: 'ann@laptop',
    installId: 'i',
    product: 'nearfield',
    version: 'v2.24.0',
    namespace: 'shop',
    ...more,
  });

/** Of a pod that the watches have not seen yet. */
export const agentInfo = (more: MessageInitShape<typeof wire.AgentInfoSchema> = {}): wire.AgentInfo =>
  create(wire.AgentInfoSchema, {
    name: 'web',
    namespace: 'shop',
    podIp: '10.0.0.1',
    podName: 'web-abc-new',
    podUid: 'uid-web-new',
    kind: 'Deployment',
    product: 'nearfield',
    version: 'v2.24.0',
    mechanisms: [{ name: 'tcp', product: 'nearfield', version: 'v2.24.0' }],
    ...more,
  });

/** Of the pod `podOf('web', '1')`. */
export const knownAgentInfo = (more: MessageInitShape<typeof wire.AgentInfoSchema> = {}): wire.AgentInfo =>
  agentInfo({ podName: 'web-abc-1', podUid: 'uid-web-1', ...more });

export const interceptSpec = (more: MessageInitShape<typeof wire.InterceptSpecSchema> = {}): wire.InterceptSpec =>
  create(wire.InterceptSpecSchema, {
    name: 'web',
    client: 'ann@laptop',
    agent: 'web',
    namespace: 'shop',
    mechanism: 'tcp',
    targetHost: '127.0.0.1',
    targetPort: 3000,
    containerPort: 8080,
    protocol: 'TCP',
    ...more,
  });
