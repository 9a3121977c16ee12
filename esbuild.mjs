// The whole build: one table of bundles. `--production` minifies nothing that a stack trace needs, `--watch` rebuilds,
// `--package` also makes the daemon's executable and the VSIX. The agent's two programs in C are built with its bundle.
import { execFile } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { build, context } from 'esbuild';

const flags = new Set(process.argv.slice(2));
const production = flags.has('--production');

/** Where a bundle runs decides its target: the editor's Node for what the extension host loads, 24 for the rest. */
const editorNode = 'node20';
const ownNode = 'node24';

const all = [
  { name: 'extension', entry: 'src/extension/extension.ts', target: editorNode, external: ['vscode'] },
  { name: 'connector', entry: 'src/connector/worker.ts', target: editorNode },
  { name: 'nearfield', entry: 'src/connector/main.ts', target: editorNode },
  { name: 'daemon', entry: 'src/daemon/main.ts', target: ownNode },
  { name: 'manager', entry: 'src/manager/main.ts', target: ownNode },
  { name: 'agent', entry: 'src/agent/main.ts', target: ownNode },
];

const only = process.argv
  .find((argument) => argument.startsWith('--only='))
  ?.slice('--only='.length)
  .split(',');
const bundles = all.filter(({ name }) => !only || only.includes(name));

/**
 * Of the Kubernetes client we use the class that reads kubeconfig files and opens connections as they say. As it says nothing of
 * side effects, all of its generated classes would come along, and the HTTP client that is for its other callers: megabytes that
 * are read at each start and stay in the memory of a manager and of an editor. Only its `polyfill` does anything by being imported.
 */
const unusedClasses = {
  name: 'unused-classes',
  setup({ onResolve, onLoad, resolve }) {
    onResolve({ filter: /./ }, async ({ path, pluginData, ...options }) => {
      const isOfClient = path === '@kubernetes/client-node' || options.importer.includes('/@kubernetes/client-node/');
      if (!isOfClient || pluginData === 'asked' || path.includes('polyfill')) {
        return undefined;
      }
      if (path === 'undici') {
        return { path, namespace: 'left-out' };
      }
      const { errors, ...found } = await resolve(path, { ...options, pluginData: 'asked' });
      return errors.length > 0 ? { errors } : { path: found.path, external: found.external, sideEffects: false };
    });
    onLoad({ filter: /./, namespace: 'left-out' }, ({ path }) => ({
      contents: `class LeftOut { constructor() { throw new Error('${path} is not in this build'); } }
        export { LeftOut as Agent, LeftOut as ProxyAgent, LeftOut as fetch };`,
    }));
  },
};

const common = {
  bundle: true,
  platform: 'node',
  format: 'cjs',
  sourcemap: production ? 'linked' : 'inline',
  sourcesContent: false,
  minifySyntax: production,
  minifyWhitespace: production,
  metafile: true,
  plugins: [unusedClasses],
  logLevel: flags.has('--watch') ? 'info' : 'warning',
  // Optional native accelerators of `ws`: absent, it uses its own code.
  external: ['bufferutil', 'utf-8-validate'],
  define: { 'process.env.WS_NO_BUFFER_UTIL': '"1"' },
  // CommonJS has no import.meta; entries that need their own place read __filename through this name.
  banner: { js: 'const importMetaUrl = require("node:url").pathToFileURL(__filename).href;' },
};

function optionsOf({ name, entry, target, external = [] }) {
  return {
    ...common,
    target,
    entryPoints: [entry],
    outfile: `dist/${name}.cjs`,
    external: [...common.external, ...external],
    define: { ...common.define, 'import.meta.url': 'importMetaUrl' },
  };
}

/** Every package in each bundle, one per line, checked in: a new dependency becomes a line in a review. */
async function writeInventory(name, metafile) {
  const packages = new Set();
  for (const input of Object.keys(metafile.inputs)) {
    const match = /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(input);
    if (match?.[1]) {
      packages.add(match[1]);
    }
  }
  await mkdir('test/golden', { recursive: true });
  await writeFile(`test/golden/bundle-${name}.txt`, `${[...packages].sort().join('\n')}\n`);
}

if (flags.has('--watch')) {
  for (const bundle of bundles) {
    await (await context(optionsOf(bundle))).watch();
  }
} else {
  await rm('dist/tmp', { recursive: true, force: true });
  for (const bundle of bundles) {
    const { metafile } = await build(optionsOf(bundle));
    await writeInventory(bundle.name, metafile);
  }
}

if (bundles.some(({ name }) => name === 'agent')) {
  const { buildRelay } = await import('./src/agent/relay/build.mjs');
  await buildRelay();
  const { buildRedirect } = await import('./src/agent/redirect/build.mjs');
  await buildRedirect();
}

if (flags.has('--package')) {
  const { packageDaemon } = await import('./src/daemon/package-sea.mjs');
  await packageDaemon();
  await promisify(execFile)(
    process.execPath,
    [
      'node_modules/@vscode/vsce/vsce',
      'package',
      '--no-dependencies',
      '--skip-license',
      '--allow-missing-repository',
      '--no-rewrite-relative-links',
      '--out',
      'dist/nearfield.vsix',
    ],
    { maxBuffer: 64 * 1024 * 1024 },
  );
}
