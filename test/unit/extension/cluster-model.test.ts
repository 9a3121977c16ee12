import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Attachment,
  type ConnectorSnapshot,
  emptySnapshot,
  type WorkloadView,
} from '../../../src/connector/index.ts';
import { type ClusterNode, clusterChildren, clusterText } from '../../../src/extension/views/cluster-model.ts';

const t = (text: string, ...values: (string | number)[]): string =>
  text.replace(/\{(\d)\}/g, (_, index: string) => String(values[Number(index)]));

const attachment = (more: Partial<Attachment> = {}): Attachment => ({
  name: 'web',
  mode: 'intercept',
  workload: 'web',
  kind: 'Deployment',
  namespace: 'shop',
  container: 'server',
  localHost: '127.0.0.1',
  ports: [{ remote: 'http', servicePort: 80, containerPort: 8080, localPort: 3000, protocol: 'TCP' }],
  filters: { headers: {}, paths: [], methods: [] },
  toPod: [],
  state: 'active',
  ...more,
});

function look(workload: Partial<WorkloadView>, attachments: readonly Attachment[]) {
  const view: WorkloadView = {
    kind: 'Deployment',
    name: 'web',
    namespace: 'shop',
    state: 'intercepted',
    interceptedBy: [],
    ...workload,
  };
  const snapshot: ConnectorSnapshot = { ...emptySnapshot, client: 'ann@laptop', attachments };
  const node: ClusterNode = { type: 'workload', id: 'w', workload: view };
  const text = clusterText(snapshot, node, t);
  const children = clusterChildren(snapshot, node).map((each) => clusterText(snapshot, each, t));
  return { text, children: children.map(({ label, description }) => `${label} – ${description}`) };
}

test('a workload that nobody holds is ready, and has no children', () => {
  const { text, children } = look({ state: 'installed' }, []);
  assert.equal(text.description, 'deployment · ready to engage');
  assert.deepEqual([text.isExpandable, children], [false, []]);
});

test('each attachment shows its mode, ports and filter', () => {
  const { text, children } = look({ interceptedBy: ['ann@laptop', 'ann@laptop'] }, [
    attachment({
      filters: { headers: { 'x-user': 'ann' }, paths: [':path-prefix:/api', ':path-regex:v\\d'], methods: ['GET'] },
    }),
    attachment({ name: 'web-2', mode: 'wiretap' }),
  ]);
  assert.deepEqual(children, [
    'Intercept http → :3000 – intercepted by you on :3000 (GET, x-user: ann, /api and below, path matches v\\d)',
    'Wiretap http → :3000 – tapped by you on :3000',
  ]);
  assert.match(text.description, /intercepted by you on :3000 \(GET.*\) · tapped by you on :3000$/);
  assert.equal(text.context, 'workload deployment attached mine');
});

test('an ingest names the container, and counts as nobody’s intercept', () => {
  const ingest = attachment({ name: 'web/server', mode: 'ingest', ports: [] });
  const { children } = look({ interceptedBy: ['ann@laptop'] }, [ingest]);
  assert.deepEqual(children, ['Ingest server – environment taken by you', 'ann@laptop – is attached too']);
});

test('others who are attached are named once, beside what is one’s own', () => {
  const { text, children } = look({ interceptedBy: ['ann@laptop', 'bob@desk', 'bob@desk'] }, [attachment()]);
  assert.equal(text.description, 'deployment · intercepted by you on :3000 · intercepted by bob@desk');
  assert.deepEqual(children[1], 'bob@desk – is attached too');
  assert.equal(children.length, 2);
});

test('an attachment that waits or failed says so', () => {
  assert.deepEqual(look({}, [attachment({ state: 'waiting' })]).children, [
    'Intercept http → :3000 – waiting for the traffic-agent',
  ]);
  assert.deepEqual(look({}, [attachment({ state: 'error', message: 'no port' })]).children, [
    'Intercept http → :3000 – intercept failed: no port',
  ]);
});

test('what can be left has the word that the menu asks for', () => {
  const snapshot: ConnectorSnapshot = { ...emptySnapshot, attachments: [attachment()] };
  const node: ClusterNode = { type: 'attachment', id: 'a', attachment: attachment() };
  assert.equal(clusterText(snapshot, node, t).context, 'attachment intercept own');
});

test('who looks closer at an attachment sees where its volumes are, and what is missing of them', () => {
  const leftOut = ['a', 'b', 'c', 'd'].map((path) => ({ path, reason: 'unreadable' as const }));
  const volumes = [
    { path: '/etc/app', kind: 'copy', isReadOnly: true, leftOut } as const,
    { path: '/data', kind: 'mount', isReadOnly: true, leftOut: [] } as const,
    { path: '/tmp', kind: 'local', isReadOnly: false, leftOut: [] } as const,
  ];
  const held = attachment({ files: { root: '/run/files', volumes } });
  const snapshot: ConnectorSnapshot = { ...emptySnapshot, attachments: [held] };
  const words = 'the traffic-agent may not read it';
  assert.deepEqual(clusterText(snapshot, { type: 'attachment', id: 'a', attachment: held }, t).details, [
    'Volumes in /run/files',
    `/etc/app: a copy, kept up to date; what is changed here does not reach the pod, without a (${words}), b (${words}), c (${words}), and 1 more`,
    '/data: mounted, read-only',
    '/tmp: an empty folder of this machine',
  ]);
});
