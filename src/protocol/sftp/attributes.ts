import type { FieldReader, FieldWriter } from './bytes.ts';

/** draft-ietf-secsh-filexfer-02 §5. What is missing was not said. */
export interface FileAttributes {
  readonly size?: number;
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** As st_mode of POSIX: the kind of file, too. */
  readonly mode?: number;
  readonly times?: { readonly accessedS: number; readonly modifiedS: number };
}

const flag = { size: 1, owner: 2, mode: 4, times: 8, extended: 0x8000_0000 } as const;
/** More extensions than anybody sends. */
const maxExtensions = 64;

export function readAttributes(fields: FieldReader): FileAttributes {
  const flags = fields.u32();
  const has = (bit: number): boolean => (flags & bit) !== 0;
  const attributes: FileAttributes = {
    ...(has(flag.size) ? { size: fields.u64() } : {}),
    ...(has(flag.owner) ? { owner: { uid: fields.u32(), gid: fields.u32() } } : {}),
    ...(has(flag.mode) ? { mode: fields.u32() } : {}),
    ...(has(flag.times) ? { times: { accessedS: fields.u32(), modifiedS: fields.u32() } } : {}),
  };
  if (has(flag.extended)) {
    const count = fields.u32();
    for (let each = 0; each < Math.min(count, maxExtensions) && fields.isWhole; each++) {
      fields.bytes();
      fields.bytes();
    }
  }
  return attributes;
}

export function writeAttributes(fields: FieldWriter, { size, owner, mode, times }: FileAttributes): void {
  fields.u32(
    (size === undefined ? 0 : flag.size) |
      (owner ? flag.owner : 0) |
      (mode === undefined ? 0 : flag.mode) |
      (times ? flag.times : 0),
  );
  if (size !== undefined) {
    fields.u64(size);
  }
  if (owner) {
    fields.u32(owner.uid).u32(owner.gid);
  }
  if (mode !== undefined) {
    fields.u32(mode);
  }
  if (times) {
    fields.u32(times.accessedS).u32(times.modifiedS);
  }
}

const kindMask = 0o170_000;
const kindBits = { directory: 0o040_000, file: 0o100_000, link: 0o120_000 } as const;
export type FileKind = keyof typeof kindBits | 'other';

/** What a mode says a file is. */
export const fileKindOf = ({ mode = 0 }: FileAttributes): FileKind =>
  (Object.keys(kindBits) as (keyof typeof kindBits)[]).find((kind) => kindBits[kind] === (mode & kindMask)) ?? 'other';
