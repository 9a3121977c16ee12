export {
  type DialFrame,
  DialFrameReader,
  type DialQuestion,
  type DialResult,
  maxDialBodyBytes,
  serializeDialFrame,
} from './frame.ts';
export { DialFrameWriter } from './writer.ts';
