export { type ConnId, parseConnId, serializeConnId } from './conn-id.ts';
export { TunnelDecoder, type TunnelDecoderHandlers, tunnelCode, tunnelHeader, tunnelMessage } from './frame.ts';
export {
  parseStreamInfo,
  type StreamInfo,
  serializeStreamInfo,
  serializeStreamOk,
  streamVersion,
} from './stream-info.ts';
