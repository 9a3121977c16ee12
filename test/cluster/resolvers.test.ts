import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type Headless, installHeadless } from '../support/headless.ts';
import { openWorkstation, type Workstation } from '../support/workstation.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { repositoryRoot } from './paths.ts';
import { installProbes, type ResolverProbe } from './probes/probes.ts';
import { applyNames, type Question, questionsFor, removeNames } from './probes/questions.ts';

// Real resolvers of many languages, asked for every form of a name, agree with what the cluster says.
const limit = { timeout: 600_000 };
const officeAddress = '172.31.87.1';
/** Below what any of them waits before it asks again: c-ares 2 s, musl 2.5 s, all others 5 s. */
const promptMs = 1_900;

let cluster: Cluster;
let workstation: Workstation;
let headless: Headless;
let probes: ResolverProbe[];
let questions: Question[];
const columns: { readonly name: string; readonly cells: readonly string[]; readonly slowestMs: number }[] = [];

before(async () => {
  cluster = await openCluster();
  await applyNames(cluster);
  workstation = await openWorkstation(7);
  headless = await installHeadless(workstation, cluster.kubeconfig);
  probes = await installProbes(workstation);
  await headless.nearfield('install');
  await headless.connect();
  questions = await questionsFor(cluster, officeAddress);
}, limit);

after(async () => {
  const folder = join(repositoryRoot, 'test/artifacts');
  const table = [
    ['A name', 'Asked', ...columns.map(({ name }) => name)],
    ['---', '---', ...columns.map(() => '---')],
    ...(questions ?? []).map(({ form, asked }, row) => [form, asked, ...columns.map(({ cells }) => cells[row] ?? '')]),
    ['Slowest, ms', '', ...columns.map(({ slowestMs }) => `${slowestMs}`)],
  ];
  const text = table.map((row) => `| ${row.join(' | ')} |\n`).join('');
  console.log(text);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'resolvers.md'), text);
  await headless?.nearfield('quit').catch(() => undefined);
  await workstation?.down();
  await removeNames(cluster).catch(() => undefined);
}, limit);

/** Sorted, without repetitions, lower case and without the last dot: what resolvers differ in and need not agree on. */
function answersIn(text: string): string[] {
  const clean = (answer: string): string => answer.toLowerCase().replace(/\.(?=:|$)/, '');
  return text === '-' ? [] : [...new Set(text.split(',').map(clean))].sort();
}

/** What is wrong with an answer; undefined when nothing is. */
function fault({ answers, isLong }: Question, found: readonly string[], isUdpOnly: boolean): string | undefined {
  const isPart = isLong && isUdpOnly && found.length > 0 && found.every((each) => answers.includes(each));
  return isPart || found.join() === answers.join() ? undefined : found.join() || 'none';
}

async function ask({ name, command, isUdpOnly = false }: ResolverProbe): Promise<string[]> {
  const asked = questions.map((question) => question.asked);
  const lines = (await workstation.run([...command, ...asked], { timeoutMs: 120_000 })).trim().split('\n');
  const wrong: string[] = [];
  let slowestMs = 0;
  const cells = questions.map((question, index) => {
    const [echo, text = '', ms] = lines[index]?.split(' ') ?? [];
    assert.equal(echo, question.asked, `${name} printed ${lines[index]}`);
    if (text === '?') {
      return 'cannot ask';
    }
    if (Number(ms) > promptMs) {
      wrong.push(`${name}: ${question.asked} took ${ms} ms`);
    }
    slowestMs = Math.max(slowestMs, Number(ms));
    const found = answersIn(text);
    const bad = fault(question, found, isUdpOnly);
    if (bad !== undefined) {
      wrong.push(`${name}: ${question.asked} is ${bad}, not ${question.answers.join() || 'none'}`);
      return `**${bad}**`;
    }
    return found.length < question.answers.length ? `${found.length} of them` : found.length > 0 ? 'yes' : 'none';
  });
  columns.push({ name, cells, slowestMs });
  return wrong;
}

for (const name of [
  ...['dig', 'dig, TCP', 'getent', 'C, glibc', 'C, musl static', 'Node lookup', 'Node resolve', 'Go, pure', 'Go, cgo'],
  ...['Java', 'Python', 'busybox nslookup'],
]) {
  test(`${name} finds every form of a name at once, and none that is not there`, limit, async () => {
    const probe = probes.find((each) => each.name === name);
    assert.ok(probe);
    assert.deepEqual(await ask(probe), []);
  });
}
