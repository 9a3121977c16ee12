import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { isReason } from '../../../src/base/index.ts';
import type { RunCommand } from '../../../src/daemon/os/command.ts';
import type { ResolverPlan } from '../../../src/daemon/os/contract.ts';
import { Nrpt } from '../../../src/daemon/os/windows/nrpt.ts';

/** A Windows machine, as far as our scripts go; prints itself. */
class FakeWindows {
  rules: { readonly comment: string; readonly text: string }[] = [];
  readonly #interfaces = new Map<string, string>();
  scripts = 0;

  readonly run: RunCommand = async (file, args) => {
    assert.equal(file, 'powershell');
    this.scripts++;
    for (const line of (args.at(-1) ?? '').split('; ')) {
      this.#do(line);
    }
    return '';
  };

  print(): string {
    return [
      ...this.rules.map(({ text }) => text),
      ...[...this.#interfaces].map(([name, setting]) => `${name}: ${setting}`),
      '',
    ].join('\n');
  }

  #do(line: string): void {
    const value = (option: string): string => new RegExp(`-${option} (\\S+|'[^']*')(?= -|$)`).exec(line)?.[1] ?? '';
    const [command = ''] = line.split(' ');
    if (command === 'Get-DnsClientNrptRule') {
      const comment = /-eq ('[^']*')/.exec(line)?.[1];
      this.rules = this.rules.filter((rule) => rule.comment !== comment);
    } else if (command === 'Add-DnsClientNrptRule') {
      const comment = value('Comment');
      this.rules.push({ comment, text: `${value('Namespace')} -> ${value('NameServers')} (${comment})` });
    } else if (command.startsWith('Set-')) {
      const setting = value('ServerAddresses') || value('ConnectionSpecificSuffix');
      this.#interfaces.set(`${value('InterfaceAlias')} ${command}`, setting);
    } else {
      assert.ok(command === 'Clear-DnsClientCache' || command.startsWith('$'), command);
    }
  }
}

const plan: ResolverPlan = {
  device: 'nf0',
  port: 53,
  resolvers: [],
  sourcePorts: [],
  routedDomains: ['default', 'svc', 'cluster.local'],
  searchDomains: ['tel2-search', 'default'],
  subnets: [],
};
const make = (windows: FakeWindows): Nrpt => new Nrpt({ run: windows.run, address: '127.0.0.1', device: 'nf0' });
const golden = new URL('../../golden/nrpt.txt', import.meta.url);

test('Windows gets one marked rule for all domains, and our server on our device', async () => {
  const windows = new FakeWindows();
  await make(windows).apply(plan);
  if (process.env['UPDATE_GOLDEN']) {
    writeFileSync(golden, windows.print());
  }
  assert.equal(windows.print(), readFileSync(golden, 'utf8'));
});

test('the same plan again runs nothing, another one replaces the rule', async () => {
  const windows = new FakeWindows();
  const nrpt = make(windows);
  await nrpt.apply(plan);
  await nrpt.apply(plan);
  assert.equal(windows.scripts, 1);
  await nrpt.apply({ ...plan, routedDomains: ['other'] });
  assert.equal(windows.rules.length, 1);
  assert.ok(windows.print().includes("'.other'"));
});

test('rules of others stay, ours go, also those of a killed predecessor', async () => {
  const windows = new FakeWindows();
  windows.rules.push({ comment: "'nearfield nf1'", text: 'another user' }, { comment: '', text: 'policy' });
  await make(windows).apply(plan);
  await make(windows).clear();
  assert.deepEqual(
    windows.rules.map(({ text }) => text),
    ['another user', 'policy'],
  );
});

test('a port that Windows cannot ask is refused', async () => {
  const windows = new FakeWindows();
  const nrpt = make(windows);
  await assert.rejects(nrpt.apply({ ...plan, port: 51_011 }), (error) => isReason(error, 'daemon.resolver-failed'));
  assert.equal(windows.scripts, 0);
});

for (const domain of ["a'b", '$(calc)', 'a;b', 'a\nb', '`a']) {
  test(`${JSON.stringify(domain)} does not become a command`, async () => {
    const windows = new FakeWindows();
    const nrpt = make(windows);
    await assert.rejects(nrpt.apply({ ...plan, routedDomains: [domain] }), (error) =>
      isReason(error, 'daemon.bad-request'),
    );
    assert.equal(windows.scripts, 0);
  });
}
