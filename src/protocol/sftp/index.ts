export { type FileAttributes, type FileKind, fileKindOf } from './attributes.ts';
export { FieldReader, FieldWriter } from './bytes.ts';
export {
  maxSftpPacketBytes,
  type NamedFile,
  openFlag,
  parseSftp,
  SftpReader,
  type SftpRequest,
  type SftpResponse,
  serializeSftp,
  sftpVersion,
  statusCode,
} from './packet.ts';
