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
export { Sessions } from './gen/nearfield_pb.js';
export { bearerPrefix, metadataOf, tokenAudience } from './identity.ts';
export { type ClientConfig, clientConfigSchema, parseConfigDuration } from './messages/client-config.ts';
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
export {
  type FilteredRequest,
  type FilterFields,
  filterFault,
  filterKey,
  hasFilters,
  isPattern,
  methodFilter,
  type PathFilter,
  type PathKind,
  parseMethods,
  parsePathFilter,
  requestMatcher,
  serializeMethods,
  serializePathFilter,
} from './messages/filters.ts';
export { plainErrorSchema } from './messages/plain-error.ts';
export {
  clientConfigKey,
  configMapName,
  durationSchema,
  type InterceptPolicy,
  interceptPolicySchema,
  parseDuration,
  policyKey,
} from './messages/policy.ts';
export {
  agentHealthPort,
  appEnvironmentPrefix,
  firstAgentPort,
  replacedContainer,
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
export {
  agentName,
  clientVersion,
  isOurName,
  managerName,
  parseVersion,
  productName,
  type Version,
  wireVersion,
} from './version.ts';
