export { shared } from './answer.ts';
export { type Caller, callerKey } from './caller.ts';
export { type CallOptions, createCallTransport } from './calls.ts';
export {
  openTunnel,
  type TunnelOpener,
  type TunnelOrigin,
  type TunnelService,
  tunnelCalls,
  tunnelPaths,
} from './client.ts';
export { relayDatagrams } from './datagrams.ts';
export { type DialOutcome, dialResultOf, dialTcp, resultOfCode } from './dial.ts';
export { http2Upgrade, muxUpgrade } from './entrance.ts';
export type { ServiceRouter } from './handlers.ts';
export { joinTo } from './join.ts';
export { LateHandlers, type LateHooks } from './late.ts';
export { type Collect, collectLitter, displaceLitter, isMemoryTight } from './litter.ts';
export type { MuxConnection } from './mux/connection.ts';
export { type MuxGuest, type MuxServer, openMux } from './mux/ends.ts';
export type { Mux, OnOpen } from './mux/mux.ts';
export { type RelayHooks, relaySocket, resetSocket } from './relay.ts';
export { createGrpcServer, type GrpcServer, type GrpcServerOptions } from './server.ts';
export {
  connectionWindowBytes,
  maxStreamsPerSession,
  type OpenHttp2Options,
  openHttp2,
  pingNow,
  streamWindowBytes,
} from './session.ts';
export { TunnelCall, type TunnelHandlers, type TunnelStream } from './stream.ts';
