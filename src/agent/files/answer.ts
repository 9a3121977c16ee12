import type { Stats } from 'node:fs';
import { toError } from '../../base/index.ts';
import {
  type FileAttributes,
  fileKindOf,
  type NamedFile,
  type SftpResponse,
  statusCode,
} from '../../protocol/index.ts';

export const attributesOf = (stats: Stats): FileAttributes => ({
  size: stats.size,
  owner: { uid: stats.uid, gid: stats.gid },
  mode: stats.mode,
  times: { accessedS: seconds(stats.atimeMs), modifiedS: seconds(stats.mtimeMs) },
});

/** The protocol counts to 2106. */
const seconds = (ms: number): number => Math.min(0xffff_ffff, Math.max(0, Math.floor(ms / 1_000)));

const letters = { directory: 'd', file: '-', link: 'l', other: '?' } as const;
const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** A file of a listing, with the line that `ls -l` would write. */
export function namedFile(name: string, attributes: FileAttributes): NamedFile {
  const { mode = 0, owner = { uid: 0, gid: 0 }, size = 0, times } = attributes;
  const bits = [...'rwxrwxrwx'].map((letter, at) => (mode & (0o400 >> at) ? letter : '-')).join('');
  const date = new Date((times?.modifiedS ?? 0) * 1_000);
  const day = `${months[date.getUTCMonth()]} ${String(date.getUTCDate()).padStart(2)} ${date.getUTCFullYear()}`;
  const kind = letters[fileKindOf(attributes)];
  return { name, attributes, longName: `${kind}${bits} 1 ${owner.uid} ${owner.gid} ${size} ${day} ${name}` };
}

export const ok = (id: number): SftpResponse => ({ type: 'status', id, code: statusCode.ok, message: '' });
export const endOfFile = (id: number): SftpResponse => ({ type: 'status', id, code: statusCode.eof, message: '' });
export const unsupported = (id: number): SftpResponse => ({
  type: 'status',
  id,
  code: statusCode.unsupported,
  message: 'not done here',
});

const codes: Readonly<Record<string, number>> = {
  ENOENT: statusCode.noSuchFile,
  ENOTDIR: statusCode.noSuchFile,
  ELOOP: statusCode.noSuchFile,
  'agent.file-not-there': statusCode.noSuchFile,
  EACCES: statusCode.permissionDenied,
  EPERM: statusCode.permissionDenied,
  EROFS: statusCode.permissionDenied,
  'agent.file-read-only': statusCode.permissionDenied,
  'agent.file-bad-request': statusCode.badMessage,
};

/** Without the system's text, in which stand paths of this machine. */
export function failureAnswer(id: number, thrown: unknown): SftpResponse {
  const { code = '' } = thrown as NodeJS.ErrnoException;
  const { reason, message } = toError(thrown);
  const number = codes[code] ?? codes[reason] ?? statusCode.failure;
  return { type: 'status', id, code: number, message: codes[reason] ? message : code };
}
