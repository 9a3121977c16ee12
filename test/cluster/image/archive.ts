import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { finished } from 'node:stream/promises';

/** What goes into the one layer of an image. Paths are absolute; parents are made. */
export type ImageEntry =
  | { readonly path: string; readonly file: string; readonly mode?: number }
  | { readonly path: string; readonly content: string; readonly mode?: number }
  | { readonly path: string; readonly directory: true; readonly mode?: number };

export interface ImageOptions {
  /** Normalised: `docker.io/nearfield/traffic:0.1.0`. */
  readonly reference: string;
  readonly entries: readonly ImageEntry[];
  readonly entrypoint: readonly string[];
  /** `NAME=value`. */
  readonly environment?: readonly string[];
  readonly command?: readonly string[];
  readonly user?: string;
}

const blockBytes = 512;

/**
 * Writes a docker-archive (one layer, a configuration, a manifest): what `ctr images import` reads, made without a
 * registry or an engine. The same input gives the same bytes, so a digest says whether an import is needed.
 */
export async function writeImage(target: string, options: ImageOptions): Promise<void> {
  const layer = await layerOf(options.entries);
  const digest = createHash('sha256').update(layer).digest('hex');
  const config = JSON.stringify({
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    os: 'linux',
    config: {
      Entrypoint: options.entrypoint,
      Cmd: options.command ?? [],
      Env: ['PATH=/usr/local/bin:/usr/bin:/bin', ...(options.environment ?? [])],
      User: options.user ?? '',
      WorkingDir: '/',
    },
    rootfs: { type: 'layers', diff_ids: [`sha256:${digest}`] },
    history: [],
  });
  const configName = `${createHash('sha256').update(config).digest('hex')}.json`;
  const manifest = JSON.stringify([
    { Config: configName, RepoTags: [options.reference], Layers: [`${digest}/layer.tar`] },
  ]);
  const out = createWriteStream(target);
  for (const [name, bytes] of [
    [configName, Buffer.from(config)],
    [`${digest}/layer.tar`, layer],
    ['manifest.json', Buffer.from(manifest)],
  ] as const) {
    out.write(tarHeader(name, bytes.length, 0o644, '0'));
    out.write(bytes);
    out.write(padding(bytes.length));
  }
  out.end(Buffer.alloc(2 * blockBytes));
  await finished(out);
}

async function layerOf(entries: readonly ImageEntry[]): Promise<Buffer> {
  const parts: Buffer[] = [];
  const made = new Set<string>();
  const directory = (path: string, mode: number): void => {
    if (path !== '' && !made.has(path)) {
      directory(path.slice(0, Math.max(0, path.lastIndexOf('/'))), 0o755);
      made.add(path);
      parts.push(tarHeader(`${path}/`, 0, mode, '5'));
    }
  };
  for (const entry of entries) {
    const path = entry.path.replace(/^\//, '');
    if ('directory' in entry) {
      directory(path, entry.mode ?? 0o755);
      continue;
    }
    directory(path.slice(0, Math.max(0, path.lastIndexOf('/'))), 0o755);
    const bytes = 'file' in entry ? await readFile(entry.file) : Buffer.from(entry.content);
    const mode = entry.mode ?? ('file' in entry ? (await stat(entry.file)).mode & 0o777 : 0o644);
    parts.push(tarHeader(path, bytes.length, mode, '0'), bytes, padding(bytes.length));
  }
  parts.push(Buffer.alloc(2 * blockBytes));
  return Buffer.concat(parts);
}

/** A ustar header. Times and owners are zero, for equal bytes from equal input. */
function tarHeader(name: string, size: number, mode: number, type: '0' | '5'): Buffer {
  const header = Buffer.alloc(blockBytes);
  const [short, prefix] = splitName(name);
  header.write(short, 0, 100);
  header.write(`${mode.toString(8).padStart(7, '0')}\0`, 100);
  header.write('0000000\0', 108);
  header.write('0000000\0', 116);
  header.write(`${size.toString(8).padStart(11, '0')}\0`, 124);
  header.write('00000000000\0', 136);
  header.write('        ', 148);
  header.write(type, 156);
  header.write('ustar\x0000', 257);
  header.write(prefix, 345, 155);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return header;
}

function splitName(name: string): [string, string] {
  if (Buffer.byteLength(name) <= 100) {
    return [name, ''];
  }
  const cut = name.lastIndexOf('/', 154);
  return [name.slice(cut + 1), name.slice(0, cut)];
}

function padding(size: number): Buffer {
  return Buffer.alloc((blockBytes - (size % blockBytes)) % blockBytes);
}

export async function digestOfFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) {
    hash.update(chunk as Buffer);
  }
  return hash.digest('hex');
}
