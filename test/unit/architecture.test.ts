import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const source = join(root, 'src');

/** Who may import whom. A room is a folder below src; everything not listed is forbidden, because of the last column. */
const rooms: Record<string, { may: string[]; because: string }> = {
  base: { may: [], because: 'base is the ground: it imports nothing, so everything may stand on it' },
  protocol: { may: ['base'], because: 'the wire knows neither Kubernetes nor the editor' },
  kube: { may: ['base'], because: 'the Kubernetes client is wrapped here and knows nothing of our wire' },
  connector: {
    may: ['base', 'protocol', 'kube'],
    because: 'the connector knows no editor and not how the daemon works',
  },
  daemon: { may: ['base', 'protocol'], because: 'the root process holds no credential and knows no cluster' },
  manager: { may: ['base', 'protocol', 'kube'], because: 'the manager knows nothing of the other ends' },
  agent: { may: ['base', 'protocol'], because: 'the agent lives in other people’s pods and has no API rights' },
  extension: {
    may: ['base', 'protocol', 'connector'],
    because: 'the extension sees the cluster only through the connector',
  },
};

/** What only some places may import. `in` is a prefix below src. */
const reserved: { what: RegExp; in: string[]; because: string }[] = [
  { what: /^vscode$/, in: ['extension/'], because: 'only the extension runs in an editor' },
  { what: /^@kubernetes\//, in: ['kube/'], because: 'its port-forward and informer have faults that kube repairs' },
  {
    what: /^(node:)?child_process$/,
    in: ['daemon/os/', 'daemon/life/', 'daemon/service/', 'connector/reach/', 'extension/daemon-launcher/'],
    because: 'starting programs is watched in five places',
  },
];

const nodeFree = [
  { in: 'base/', except: [], because: 'base runs anywhere' },
  { in: 'protocol/', except: ['protocol/transport/'], because: 'only transports touch Node' },
];

interface Edge {
  readonly from: string;
  readonly specifier: string;
}

function* sourceFiles(folder: string): Generator<string> {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      yield* sourceFiles(path);
    } else if (/\.ts$/.test(entry.name) && !/\.d\.ts$/.test(entry.name)) {
      yield path;
    }
  }
}

const pattern =
  /(?:^|\n)\s*(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)|(?:^|\n)\s*import\s*['"]([^'"]+)['"]/g;

const edges: Edge[] = [...sourceFiles(source)].flatMap((path) =>
  [...readFileSync(path, 'utf8').matchAll(pattern)].map((match) => ({
    from: relative(source, path),
    specifier: match[1] ?? match[2] ?? match[3] ?? '',
  })),
);

const roomOf = (path: string): string => path.split('/')[0] ?? '';
const targetOf = ({ from, specifier }: Edge): string => normalize(join(dirname(from), specifier));

test('imports between rooms point one way', () => {
  const wrong = edges
    .filter((edge) => edge.specifier.startsWith('.'))
    .filter((edge) => {
      const to = roomOf(targetOf(edge));
      return to !== roomOf(edge.from) && !rooms[roomOf(edge.from)]?.may.includes(to);
    })
    .map((edge) => `${edge.from} imports ${edge.specifier}: ${rooms[roomOf(edge.from)]?.because ?? 'unknown room'}`);
  assert.deepEqual(wrong, []);
});

test('a room is entered through its door only', () => {
  const doors = (room: string): string[] =>
    room === 'protocol' ? ['protocol/index.ts', 'protocol/transport/index.ts'] : [`${room}/index.ts`];
  const wrong = edges
    .filter((edge) => edge.specifier.startsWith('.'))
    .filter(
      (edge) => roomOf(targetOf(edge)) !== roomOf(edge.from) && !doors(roomOf(targetOf(edge))).includes(targetOf(edge)),
    )
    .map((edge) => `${edge.from} imports ${edge.specifier}: come in through the door`);
  assert.deepEqual(wrong, []);
});

test('reserved modules are imported in their own places only', () => {
  const wrong = edges.flatMap((edge) =>
    reserved
      .filter(
        ({ what, in: places }) => what.test(edge.specifier) && !places.some((place) => edge.from.startsWith(place)),
      )
      .map(({ because }) => `${edge.from} imports ${edge.specifier}: ${because}`),
  );
  assert.deepEqual(wrong, []);
});

test('base and the pure part of protocol do without Node', () => {
  const wrong = edges.flatMap((edge) =>
    nodeFree
      .filter(
        (rule) =>
          edge.specifier.startsWith('node:') &&
          edge.from.startsWith(rule.in) &&
          !rule.except.some((place) => edge.from.startsWith(place)),
      )
      .map((rule) => `${edge.from} imports ${edge.specifier}: ${rule.because}`),
  );
  assert.deepEqual(wrong, []);
});

const bannedCalls: { what: RegExp; except: RegExp; because: string }[] = [
  {
    what: /(?<![.\w])(setTimeout|setInterval|Date\.now)\(/,
    except: /^base\/clock\.ts$/,
    because: 'real time is read in base/clock.ts',
  },
  {
    what: /\bprocess\.(env|argv)\b/,
    except: /(^|\/)main\.ts$|^extension\/extension\.ts$/,
    because: 'environment and arguments are read in the main file',
  },
  { what: /\bthrow new Error\(/, except: /^$/, because: 'errors have a code and a reason: use the room’s errors.ts' },
];

test('time, environment and bare errors stay in their places', () => {
  const wrong = [...sourceFiles(source)].flatMap((path) => {
    const from = relative(source, path);
    const code = readFileSync(path, 'utf8').replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');
    return bannedCalls
      .filter(({ what, except }) => what.test(code) && !except.test(from))
      .map(({ because }) => `${from}: ${because}`);
  });
  assert.deepEqual(wrong, []);
});

test('no source file is longer than 400 lines', () => {
  const long = [...sourceFiles(source)]
    .filter((path) => !path.includes('/gen/'))
    .map((path) => ({ path: relative(source, path), lines: readFileSync(path, 'utf8').split('\n').length }))
    .filter(({ lines }) => lines > 400);
  assert.deepEqual(long, []);
});
