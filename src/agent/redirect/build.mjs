// Builds the program of the init container for the system it runs on. Its libraries are those of Node.
import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

export async function buildRedirect(target = 'dist/redirect') {
  if (process.platform !== 'linux') {
    return;
  }
  await mkdir('dist', { recursive: true });
  await run('gcc', ['-O2', '-Wall', '-Wextra', '-s', '-o', target, 'src/agent/redirect/redirect.c']);
}
