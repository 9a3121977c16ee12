import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { silentLogger, systemClock, toError } from '../../src/base/index.ts';
import { ConnectorCore } from '../../src/connector/core.ts';
import type { Attachment, AttachRequest } from '../../src/connector/index.ts';
import { loadKube } from '../../src/kube/index.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { type Call, type Caller, isReady, openCaller } from './matrix/caller.ts';
import { documented, type KindName, kinds, type Mode, modes, printTable, reasonAgainst } from './matrix/cells.ts';
import { type Program, startProgram } from './matrix/developer.ts';
import { manifests, namespace, type Row, rowOf, strictNamespace } from './matrix/workloads.ts';
import { repositoryRoot, stateFolder } from './paths.ts';
import { waitFor } from './shell.ts';

// Every mode with every kind of workload: who answers, who hears, and that leaving gives everything back. One connector
// for all; kinds are tried beside each other.
const limit = { timeout: 240_000 };
const together = 3;
const settleMs = 90_000;
const names = Object.keys(kinds) as KindName[];

let cluster: Cluster;
let core: ConnectorCore;
let caller: Caller;
const programs = new Map<KindName, Program>();
const results = new Map<string, string>();

before(async () => {
  cluster = await openCluster();
  core = new ConnectorCore({ clock: systemClock, log: silentLogger });
  await core.install({ kubeconfig: cluster.kubeconfig });
  const file = join(stateFolder, 'matrix.json');
  await writeFile(file, JSON.stringify(manifests()));
  await cluster.kubectl('apply', '-f', file);
  caller = await openCaller(loadKube({ kubeconfig: cluster.kubeconfig }));
  await core.connect({ kubeconfig: cluster.kubeconfig, namespace });
  for (const name of names) {
    programs.set(name, await startProgram(rowOf(name).way));
  }
}, limit);

after(async () => {
  const table = printTable((mode, kind) => reasonAgainst(mode, kind) ?? results.get(`${mode} ${kind}`) ?? 'not tried');
  await mkdir(join(repositoryRoot, 'test/artifacts'), { recursive: true });
  await writeFile(join(repositoryRoot, 'test/artifacts/modes.md'), `${table}\n`);
  console.log(table);
  await core?.dispose();
  await caller?.dispose();
  for (const program of programs.values()) {
    program.close();
  }
  for (const each of [namespace, strictNamespace]) {
    await cluster?.kubectl('delete', 'namespace', each, '--wait=false').catch(() => undefined);
  }
}, limit);

const program = (kind: KindName): Program => programs.get(kind) ?? assert.fail(`no program for ${kind}`);

/** As many answers in a row as a workload may have pods, and some more. */
async function answeredBy(who: 'pod' | 'laptop', kind: KindName, call?: Call): Promise<void> {
  let inRow = 0;
  await waitFor(`an answer of the ${who} for ${kind}`, settleMs, async () => {
    const text = await caller.call(rowOf(kind), call);
    inRow = text.startsWith(who) ? inRow + 1 : 0;
    return inRow >= 5 ? true : undefined;
  });
}

const requestFor = (mode: Mode, kind: KindName): AttachRequest => {
  const row = rowOf(kind);
  const common = { workload: row.workload, namespace: row.namespace };
  const protocol = row.way === 'udp' ? 'UDP' : 'TCP';
  const port = { remote: row.remote, local: program(kind).port, protocol } as const;
  switch (mode) {
    case 'ingest':
      return { ...common, mode, container: row.container };
    case 'replace':
      return { ...common, mode, container: row.container, ports: [{ ...port, remote: String(row.containerPort) }] };
    case 'filtered':
      return { ...common, ports: [port], filters: { headers: { 'x-user': 'ann' }, paths: [':path-prefix:/x'] } };
    default:
      return { ...common, mode, ports: [port] };
  }
};

const hasContainer = (row: Row): boolean =>
  caller.podsOf(row).some(({ spec }) => spec?.containers.some(({ name }) => name === row.container));

const attempts: Record<Mode, (kind: KindName, attached: Attachment) => Promise<void>> = {
  intercept: (kind) => answeredBy('laptop', kind),
  async filtered(kind) {
    const ann = { headers: { 'x-user': 'ann' } };
    await answeredBy('laptop', kind, ann);
    for (const call of [{}, { headers: { 'x-user': 'bob' } }, { ...ann, path: '/y' }]) {
      await answeredBy('pod', kind, call);
    }
  },
  async wiretap(kind) {
    const path = `/tap-${kind}`;
    await waitFor(`a copy for ${kind}`, settleMs, async () => {
      assert.match(await caller.call(rowOf(kind), { path }), /^pod|^error/);
      return program(kind).heard.includes(path) ? true : undefined;
    });
    await answeredBy('pod', kind);
  },
  async replace(kind) {
    await answeredBy('laptop', kind);
    await waitFor('the end of the container', settleMs, async () => (hasContainer(rowOf(kind)) ? undefined : true));
  },
  async ingest(kind, { name }) {
    const environment = await core.environment(name);
    assert.equal(environment['GREETING'], 'hello from the cluster');
    await answeredBy('pod', kind);
  },
};

/** A machine with too much to do loses the connection, which is made anew: that is other tests' matter. */
async function attach(request: AttachRequest, triesLeft = 2): Promise<Attachment> {
  await waitFor('the connection', settleMs, async () =>
    core.snapshot.connection.state === 'connected' ? true : undefined,
  );
  try {
    return await core.attach(request);
  } catch (thrown) {
    const { code, reason } = toError(thrown);
    if (triesLeft === 0 || (code !== 'unavailable' && reason !== 'connector.not-connected')) {
      throw thrown;
    }
    return attach(request, triesLeft - 1);
  }
}

async function left(name: string): Promise<void> {
  await waitFor(`the end of ${name}`, settleMs, async () => {
    await core.leave(name).catch(() => undefined);
    return core.snapshot.attachments.some((each) => each.name === name) ? undefined : true;
  });
}

async function tryCell(mode: Mode, kind: KindName): Promise<void> {
  await answeredBy('pod', kind);
  const attached = await attach(requestFor(mode, kind));
  try {
    assert.equal(attached.state, 'active');
    await attempts[mode](kind, attached);
  } finally {
    await left(attached.name);
  }
  await answeredBy('pod', kind);
}

for (const mode of modes) {
  describe(mode, { concurrency: together, timeout: 600_000 }, () => {
    for (const kind of names) {
      const reason = reasonAgainst(mode, kind);
      const title = `${mode}: ${kinds[kind]}`;
      if (reason === undefined) {
        test(title, limit, async () => {
          results.set(`${mode} ${kind}`, 'failed');
          await tryCell(mode, kind);
          results.set(`${mode} ${kind}`, 'yes');
        });
      } else {
        test(`${title} is refused, and the pods stay as they are`, limit, async () => {
          const before = caller.podsOf(rowOf(kind)).map(({ metadata }) => metadata?.uid);
          await assert.rejects(
            core.attach(requestFor(mode, kind)),
            /filters look at HTTP requests|called by its number/,
          );
          assert.deepEqual(
            caller.podsOf(rowOf(kind)).map(({ metadata }) => metadata?.uid),
            before,
          );
        });
      }
    }
  });
}

test('probes reached the applications, and no developer’s program heard of them', () => {
  const probed = [...programs.values()]
    .flatMap(({ heard }) => heard)
    .filter((path) => /^\/(live|ready|grpc)/.test(path));
  assert.deepEqual(probed, []);
  for (const name of names) {
    for (const { status, metadata } of caller.podsOf(rowOf(name)).filter(isReady)) {
      const restarts = (status?.containerStatuses ?? []).filter(({ restartCount }) => restartCount > 0);
      assert.deepEqual(restarts, [], metadata?.name);
    }
  }
});

test('both ports of two containers come to two programs, of one attachment', limit, async () => {
  const [http, admin] = await Promise.all([startProgram('http'), startProgram('http')]);
  const { name } = await attach({
    workload: 'pair',
    namespace,
    ports: [
      { remote: 'http', local: http.port },
      { remote: 'admin', local: admin.port },
    ],
  });
  await answeredBy('laptop', 'pair', { path: '/first' });
  const row = { ...rowOf('pair'), callPort: 90 };
  await waitFor('an answer at the second port', settleMs, async () =>
    (await caller.call(row, { path: '/second' })) === 'laptop /second' ? true : undefined,
  );
  await left(name);
  assert.ok(http.heard.includes('/first') && admin.heard.includes('/second') && !admin.heard.includes('/first'));
  for (const each of [http, admin]) {
    each.close();
  }
});

test('a StatefulSet whose budget lets no pod go is refused for that reason, and its pod stays', limit, async () => {
  const stuck = { workload: 'stuck', namespace };
  await waitFor('the pod', settleMs, async () => caller.podsOf(stuck).find(isReady));
  const [before] = caller.podsOf(stuck);
  await assert.rejects(attach({ ...stuck, ports: [{ local: 1, remote: 'http' }] }), /disruption budget/);
  assert.deepEqual(
    caller.podsOf(stuck).map(({ metadata }) => metadata?.uid),
    [before?.metadata?.uid],
  );
});

test('docs/modes.md has this table', async () => {
  const text = await readFile(join(repositoryRoot, 'docs/modes.md'), 'utf8');
  assert.ok(text.includes(documented()));
});
