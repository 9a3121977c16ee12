import { access, mkdir, readFile, realpath, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { coreDnsBinary } from '../cache.ts';
import { containerdSocket } from '../node.ts';
import { repositoryRoot, stateFolder } from '../paths.ts';
import { run } from '../shell.ts';
import { digestOfFile, type ImageEntry, type ImageOptions, writeImage } from './archive.ts';

const here = (...parts: string[]): string => join(repositoryRoot, 'test/cluster', ...parts);
const dist = (file: string): string => join(repositoryRoot, 'dist', file);

/** A program and the shared libraries it names, at the paths where its loader looks. */
async function withLibraries(path: string, file: string): Promise<ImageEntry[]> {
  const libraries = [...(await run('ldd', [file])).matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? '');
  return [
    { path, file, mode: 0o755 },
    ...(await Promise.all(
      libraries.map(async (library) => ({ path: library, file: await realpath(library), mode: 0o755 })),
    )),
  ];
}

async function compile(source: string, name: string): Promise<string> {
  const target = join(stateFolder, 'images', name);
  await run('gcc', ['-O2', '-static', '-o', target, source]);
  return target;
}

/** Without its symbols Node is 18 MB smaller; those that native modules need are kept. */
async function strippedNode(): Promise<string> {
  const target = join(stateFolder, 'images', 'node');
  await run('strip', ['-o', target, nodeProgram]);
  return target;
}

const nodeProgram = join(repositoryRoot, 'node_modules/node/bin/node');

async function pauseImage(): Promise<ImageOptions> {
  const entries = [{ path: '/pause', file: await compile(here('image/pause.c'), 'pause'), mode: 0o755 }];
  return { reference: 'docker.io/nearfield/pause:1', entries, entrypoint: ['/pause'] };
}

async function coreDnsImage(): Promise<ImageOptions> {
  const entries = [{ path: '/coredns', file: await coreDnsBinary(), mode: 0o755 }];
  return { reference: 'docker.io/nearfield/coredns:1', entries, entrypoint: ['/coredns'] };
}

/** One image for all sample workloads: node, the sample servers, and the load programs of the benchmarks. */
async function samplesImage(): Promise<ImageOptions> {
  const [load, http] = await Promise.all(
    ['load', 'http'].map((name) => compile(join(repositoryRoot, `test/bench/native/${name}.c`), name)),
  );
  const entries: ImageEntry[] = [
    ...(await withLibraries('/usr/local/bin/node', nodeProgram)),
    ...['server.js', 'web-socket.cjs', 'rpc.cjs', 'caller.cjs'].map((name) => ({
      path: `/samples/${name}`,
      file: here('samples', name),
      mode: 0o644,
    })),
    { path: '/usr/local/bin/load', file: load ?? '', mode: 0o755 },
    { path: '/usr/local/bin/http', file: http ?? '', mode: 0o755 },
    { path: '/tmp', directory: true, mode: 0o1777 },
  ];
  return {
    reference: 'docker.io/nearfield/samples:1',
    entries,
    entrypoint: ['/usr/local/bin/node'],
    command: ['/samples/server.js'],
  };
}

/** The product's own image: traffic-manager and traffic-agent. Present once the bundles are built. */
async function trafficImage(): Promise<ImageOptions> {
  const { version } = JSON.parse(await readFile(join(repositoryRoot, 'package.json'), 'utf8')) as { version: string };
  const entries: ImageEntry[] = [
    ...(await withLibraries('/usr/local/bin/node', await strippedNode())),
    { path: '/app/manager.cjs', file: dist('manager.cjs'), mode: 0o644 },
    { path: '/app/agent.cjs', file: dist('agent.cjs'), mode: 0o644 },
    { path: '/app/relay.node', file: dist('relay.node'), mode: 0o755 },
    { path: '/app/redirect', file: dist('redirect'), mode: 0o755 },
    { path: '/etc/passwd', content: 'traffic:x:1000:1000::/:/none\n' },
    { path: '/tmp', directory: true, mode: 0o1777 },
  ];
  return {
    reference: `docker.io/nearfield/traffic:${version}`,
    entries,
    ...(await fromDockerfile()),
    command: ['/app/manager.cjs'],
    user: '1000:1000',
  };
}

/** How it is started is said in one place, for those who build it there, too. */
async function fromDockerfile(): Promise<{ readonly entrypoint: string[]; readonly environment: string[] }> {
  const text = await readFile(join(repositoryRoot, 'Dockerfile'), 'utf8');
  const entrypoint = /^ENTRYPOINT (\[.*\])$/m.exec(text)?.[1] ?? '';
  return {
    entrypoint: JSON.parse(entrypoint) as string[],
    environment: [...text.matchAll(/^ENV (\S+=\S+)$/gm)].map(([, each = '']) => each),
  };
}

export async function importImages(): Promise<void> {
  await mkdir(join(stateFolder, 'images'), { recursive: true });
  for (const image of await Promise.all([pauseImage(), coreDnsImage(), samplesImage()])) {
    await importImage(image);
  }
}

/** Answers true when the cluster had another one before, or none. Without built bundles there is nothing to import. */
export async function importTrafficImage(): Promise<boolean> {
  const isBuilt = await access(dist('manager.cjs')).then(
    () => true,
    () => false,
  );
  if (isBuilt) {
    await mkdir(join(stateFolder, 'images'), { recursive: true });
    return importImage(await trafficImage());
  }
  return false;
}

/** Imports an image unless the same bytes were imported into this cluster before: then it answers false. */
async function importImage(options: ImageOptions): Promise<boolean> {
  const name = options.reference.replace(/[^a-z0-9.]+/g, '-');
  const archive = join(stateFolder, 'images', `${name}.tar`);
  await writeImage(archive, options);
  const digest = await digestOfFile(archive);
  const marker = `${archive}.imported`;
  const isNew = (await readFile(marker, 'utf8').catch(() => '')) !== digest;
  if (isNew) {
    await run('ctr', ['--address', containerdSocket(), '-n', 'k8s.io', 'images', 'import', archive], {
      timeoutMs: 180_000,
    });
    await writeFile(marker, digest);
  }
  return isNew;
}
