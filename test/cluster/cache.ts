import { createHash } from 'node:crypto';
import { access, mkdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheFolder, repositoryRoot } from './paths.ts';
import { ensureGo } from './prerequisites.ts';
import { run, step } from './shell.ts';

const buildLimitMs = 30 * 60_000;

/** The path of `name` for this key; built once, into a temporary name and renamed, so that a crash leaves nothing half. */
export async function cached(name: string, key: string, build: (target: string) => Promise<void>): Promise<string> {
  const folder = join(cacheFolder, `${name}-${key}`);
  const target = join(folder, name);
  if (
    await access(target).then(
      () => true,
      () => false,
    )
  ) {
    return target;
  }
  await mkdir(folder, { recursive: true });
  const temporary = `${target}.${process.pid}`;
  await build(temporary);
  await rename(temporary, target);
  return target;
}

/** A Go program of ours, keyed by everything that goes into it. `variables` are set by the linker. */
async function goProgram(
  name: string,
  folder: string,
  variables: Readonly<Record<string, string>> = {},
): Promise<string> {
  const source = join(repositoryRoot, 'test/cluster', folder);
  const flags = ['-s', '-w', ...Object.entries(variables).map(([variable, value]) => `-X=${variable}=${value}`)];
  const hash = createHash('sha256').update(flags.join(' '));
  for (const file of ['go.mod', 'go.sum', 'main.go']) {
    hash.update(await readFile(join(source, file)));
  }
  return cached(name, hash.digest('hex').slice(0, 16), async (target) => {
    await ensureGo();
    await step(`building ${name} (minutes the first time)`, () =>
      run('go', ['build', '-trimpath', '-ldflags', flags.join(' '), '-o', target, '.'], {
        cwd: source,
        env: { ...process.env, CGO_ENABLED: '0' },
        timeoutMs: buildLimitMs,
      }),
    );
  });
}

const helmModule = 'helm.sh/helm/v3/cmd/helm@v3.19.5';

/** The real Helm, from the Go module proxy: the checksum database says that it is the published one. */
export const helmBinary = (): Promise<string> =>
  cached('helm', helmModule.split('@')[1] ?? '', async (target) => {
    await ensureGo();
    const folder = `${target}.d`;
    await step('building helm (minutes the first time)', () =>
      run('go', ['install', '-trimpath', '-ldflags', '-s -w', helmModule], {
        cwd: cacheFolder,
        env: { ...process.env, CGO_ENABLED: '0', GOBIN: folder },
        timeoutMs: buildLimitMs,
      }),
    );
    await rename(join(folder, 'helm'), target);
    await rm(folder, { recursive: true, force: true });
  });

/** Of the module in `node/go.mod`: clients of others refuse a cluster whose version is none. */
const kubernetesVersion = { major: '1', minor: '34', full: 'v1.34.4' };
const versionPackage = 'k8s.io/component-base/version';

export const nodeBinary = (): Promise<string> =>
  goProgram('nearfield-node', 'node', {
    [`${versionPackage}.gitVersion`]: kubernetesVersion.full,
    [`${versionPackage}.gitMajor`]: kubernetesVersion.major,
    [`${versionPackage}.gitMinor`]: kubernetesVersion.minor,
  });
export const coreDnsBinary = (): Promise<string> => goProgram('coredns', 'coredns');
