export {
  type DialFrame,
  DialFrameReader,
  type DialQuestion,
  type DialResult,
  maxDialBodyBytes,
  serializeDialFrame,
} from './frame.ts';
