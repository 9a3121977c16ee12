// Builds the relay for the system it runs on; the agent works without it, and slower.
import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { promisify } from 'node:util';
import { include_dir as headers } from 'node-api-headers';

const run = promisify(execFile);

export async function buildRelay(target = 'dist/relay.node') {
  if (process.platform !== 'linux') {
    return;
  }
  await mkdir('dist', { recursive: true });
  const flags = ['-O2', '-Wall', '-Wextra', '-fPIC', '-shared', '-s', '-pthread', `-I${headers}`];
  const sources = ['addon.c', 'thread.c', 'pairs.c', 'tap.c'].map((name) => `src/agent/relay/${name}`);
  await run('gcc', [...flags, '-o', target, ...sources]);
}
