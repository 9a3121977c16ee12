/**
 * Runs the suites and ends with one line: `N passed, N failed`. `node test/run.ts all`, or any of the names below.
 * The suites that need a cluster share one: it is booted once, and taken down at the end unless it was up before.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { ensurePrerequisites } from './cluster/prerequisites.ts';

const suites = {
  types: { command: ['node_modules/typescript/bin/tsc', '--noEmit'], needsBuild: false, globs: [] },
  lint: { command: ['node_modules/@biomejs/biome/bin/biome', 'check', '.'], needsBuild: false, globs: [] },
  unit: { globs: ['test/unit/**/*.test.ts'], needsBuild: false },
  contract: { globs: ['test/contract/**/*.test.ts'], needsBuild: false },
  integration: { globs: ['test/integration/**/*.test.ts'], needsBuild: false },
  cluster: { globs: ['test/cluster/**/*.test.ts'], needsBuild: true },
  e2e: { globs: ['test/e2e/**/*.test.ts'], needsBuild: true },
} as const;

type SuiteName = keyof typeof suites;
interface Count {
  passed: number;
  failed: number;
}

const suiteLimitMs = 40 * 60_000;
const testLimitMs = 10 * 60_000;
const isSuite = (name: string): name is SuiteName => name in suites;

/** Runs a program to its end, passing its lines on; kills it when the limit is over. */
function run(args: readonly string[], onLine: (line: string) => void): Promise<number> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const timer = setTimeout(() => child.kill('SIGTERM'), suiteLimitMs);
    createInterface({ input: child.stdout }).on('line', onLine);
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve(code ?? 1);
    });
  });
}

/** One file at a time where the machine's network or the cluster is shared. */
async function runTests(name: SuiteName, globs: readonly string[], count: Count): Promise<void> {
  const before = { ...count };
  const serial = name === 'cluster' || name === 'e2e';
  const code = await run(
    [
      '--test',
      '--test-reporter=spec',
      `--test-timeout=${testLimitMs}`,
      ...(serial ? ['--test-concurrency=1'] : []),
      ...globs,
    ],
    (line) => {
      console.log(line);
      const match = /^ℹ (pass|fail|cancelled) (\d+)$/.exec(line);
      if (match) {
        count[match[1] === 'pass' ? 'passed' : 'failed'] += Number(match[2]);
      }
    },
  );
  if (code !== 0 && count.failed === before.failed) {
    count.failed++;
  }
}

async function runCommand(name: string, args: readonly string[], count: Count): Promise<boolean> {
  const started = performance.now();
  const code = await run(args, (line) => console.log(line));
  console.log(`${code === 0 ? '✔' : '✖'} ${name} (${((performance.now() - started) / 1000).toFixed(1)} s)`);
  count[code === 0 ? 'passed' : 'failed']++;
  return code === 0;
}

const wanted = process.argv
  .slice(2)
  .flatMap((name) => (name === 'all' ? (Object.keys(suites) as SuiteName[]) : [name]));
const unknown = wanted.filter((name) => !isSuite(name));
if (wanted.length === 0 || unknown.length > 0) {
  console.error(`usage: node test/run.ts all|${Object.keys(suites).join('|')}`);
  process.exit(2);
}

const count: Count = { passed: 0, failed: 0 };
let built = false;
const cluster = (verb: string): Promise<number> => run(['test/cluster/cli.ts', verb], () => undefined);
const needsCluster =
  wanted.some((name) => isSuite(name) && suites[name].needsBuild) && !process.env['NEARFIELD_TEST_KUBECONFIG'];
// The integration tests are about real programs, too.
if (needsCluster || wanted.includes('integration')) {
  await ensurePrerequisites();
}
const wasUp = needsCluster && (await cluster('status')) === 0;
for (const name of wanted.filter(isSuite)) {
  const suite = suites[name];
  console.log(`\n== ${name}`);
  if (suite.needsBuild && !built) {
    if (!(await runCommand('build', ['esbuild.mjs', '--production', '--package'], count))) {
      break;
    }
    built = true;
  }
  if ('command' in suite) {
    await runCommand(name, suite.command, count);
  } else {
    await runTests(name, suite.globs, count);
  }
}
if (needsCluster && !wasUp) {
  await cluster('down');
}
console.log(`\n${count.passed} passed, ${count.failed} failed`);
process.exitCode = count.failed > 0 || count.passed === 0 ? 1 : 0;
