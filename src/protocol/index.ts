export {
  type DialFrame,
  DialFrameReader,
  DialFrameWriter,
  type DialQuestion,
  type DialResult,
  maxDialBodyBytes,
  serializeDialFrame,
} from './dial/index.ts';
export { errorOfConnect } from './errors.ts';
export { Agent } from './gen/agent_pb.js';
export * as wire from './gen/manager_pb.js';
export {
  type AppliedNetwork,
  type AttachResult,
  appliedNetworkSchema,
  applyParamsSchema,
  attachParamsSchema,
  attachResultSchema,
  type DaemonProbe,
  type DaemonSocketPaths,
  type DaemonStatus,
  type DesiredDns,
  type DesiredNetwork,
  daemonInstallFolder,
  daemonInstallPath,
  daemonMethod,
  daemonProbeSchema,
  daemonProtocolVersion,
  daemonRuntimeDirectory,
  daemonServiceFile,
  daemonSocketPaths,
  daemonStatusSchema,
  desiredDnsSchema,
  desiredNetworkSchema,
  emptyParamsSchema,
  type HealthCondition,
  healthConditionSchema,
  healthParamsSchema,
  isPipe,
  type ListenParams,
  listenParamsSchema,
  runtimeDirectoryOf,
} from './messages/daemon.ts';
export { plainErrorSchema } from './messages/plain-error.ts';
export {
  agentHealthPort,
  appEnvironmentPrefix,
  firstAgentPort,
  type SidecarConfig,
  type SidecarContainer,
  type SidecarPort,
  sidecarConfigSchema,
} from './messages/sidecar.ts';
export {
  type ConnId,
  parseConnId,
  parseStreamInfo,
  type StreamInfo,
  serializeConnId,
  serializeStreamInfo,
  serializeStreamOk,
  streamVersion,
  TunnelDecoder,
  type TunnelDecoderHandlers,
  tunnelCode,
  tunnelHeader,
} from './tunnel/index.ts';
export { clientVersion, parseVersion, productName, type Version, wireVersion } from './version.ts';
