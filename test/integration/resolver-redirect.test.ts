import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { waitFor } from '../cluster/shell.ts';
import { type Machine, openMachine, startConnector, startDaemon } from '../support/machine.ts';
import { startOffice } from '../support/office.ts';

// Names without systemd-resolved: questions to the machine's own resolvers come to the daemon.
const office = '192.0.2.53';
const names = { 'service-a.default.': '10.201.0.7', 'service-a.': '10.201.0.7' };
const intranet = { 'intranet.office.example': '172.16.0.9' };

const ask = async (machine: Machine, name: string, ...options: string[]): Promise<string> =>
  (await machine.run(['dig', '+short', '+time=2', '+tries=1', ...options, name]).catch(() => '')).trim();

const setResolvers = (machine: Machine, ...addresses: string[]): Promise<string> =>
  machine.run(['sh', '-c', `printf 'nameserver %s\\n' ${addresses.join(' ')} >/etc/resolv.conf`]);

async function withMachine(work: (machine: Machine) => Promise<void>): Promise<void> {
  const machine = await openMachine();
  try {
    await work(machine);
  } finally {
    await machine.close();
  }
}

const tables = (machine: Machine): Promise<string> => machine.run(['nft', 'list', 'tables']);

suite('names by redirect', { concurrency: 2 }, () => {
  test('the cluster’s names and the office’s, over UDP and TCP, and nothing is left', () =>
    withMachine(async (machine) => {
      await startOffice(machine, office, intranet);
      await setResolvers(machine, office);
      const daemon = await startDaemon(machine);
      await startConnector(machine, { names });
      for (const transport of ['+notcp', '+tcp']) {
        assert.equal(await ask(machine, 'service-a.default', transport), '10.201.0.7');
        assert.equal(await ask(machine, 'intranet.office.example', transport), '172.16.0.9');
      }
      assert.match(await machine.run(['getent', 'hosts', 'service-a']), /^10\.201\.0\.7 /);
      await daemon.kill('SIGKILL');
      await waitFor('the end of the table', 5_000, async () => (await tables(machine)) === '' || undefined);
      assert.equal(await ask(machine, 'intranet.office.example'), '172.16.0.9');
    }));

  test('resolvers on loopback addresses, as containers have them', () =>
    withMachine(async (machine) => {
      // Docker's own resolver listens on a port of its own, to which rules of the container lead.
      await startOffice(machine, '127.0.0.1', intranet, 5_354);
      for (const protocol of ['udp', 'tcp']) {
        const to = ['-j', 'DNAT', '--to-destination', '127.0.0.1:5354'];
        const rule = ['-d', '127.0.0.11', '-p', protocol, '--dport', '53', ...to];
        await machine.run(['iptables', '-t', 'nat', '-A', 'OUTPUT', ...rule]);
      }
      await setResolvers(machine, '127.0.0.11');
      await startDaemon(machine);
      await startConnector(machine, { names });
      for (const transport of ['+notcp', '+tcp']) {
        assert.equal(await ask(machine, 'service-a.default', transport), '10.201.0.7');
        assert.equal(await ask(machine, 'intranet.office.example', transport), '172.16.0.9');
      }
    }));

  test('resolvers that change while connected, also to IPv6, and none at all', () =>
    withMachine(async (machine) => {
      await startOffice(machine, office, intranet);
      await startOffice(machine, '2001:db8::53', { 'intranet.office.example': '172.16.0.10' });
      await setResolvers(machine, office);
      await startDaemon(machine);
      await startConnector(machine, { names });
      const follows = (expected: string): Promise<boolean> =>
        waitFor('the new resolver', 20_000, async () => {
          assert.equal(await ask(machine, 'service-a.default'), '10.201.0.7');
          assert.equal(await ask(machine, 'intranet.office.example'), expected);
          return true;
        });
      await follows('172.16.0.9');
      await setResolvers(machine, '2001:db8::53');
      await follows('172.16.0.10');
      await setResolvers(machine, office);
      await follows('172.16.0.9');
    }));

  test('the cluster’s names on a machine without a resolver', () =>
    withMachine(async (machine) => {
      await machine.run(['sh', '-c', 'echo "# none" >/etc/resolv.conf']);
      await startDaemon(machine);
      await startConnector(machine, { names });
      assert.match(await machine.run(['getent', 'hosts', 'service-a.default']), /^10\.201\.0\.7 /);
    }));

  test('a child that somebody kills is replaced', () =>
    withMachine(async (machine) => {
      await startOffice(machine, office, intranet);
      await setResolvers(machine, office);
      await startDaemon(machine);
      await startConnector(machine, { names });
      await machine.run(['sh', '-c', 'kill -9 $(ps -eo pid,args | grep "[n]ft -i" | head -n 1 | cut -c 1-8)']);
      await waitFor('the new child', 20_000, async () =>
        (await ask(machine, 'service-a.default')) === '10.201.0.7' ? true : undefined,
      );
    }));

  test('with two users connected, each asks its own cluster', () =>
    withMachine(async (machine) => {
      await startOffice(machine, office, intranet);
      await setResolvers(machine, office);
      for (const [uid, octet] of [
        [1_001, 201],
        [1_002, 202],
      ] as const) {
        await startDaemon(machine, uid);
        await startConnector(machine, {
          uid,
          network: { subnets: [`10.${octet}.0.0/16`] },
          names: { 'service-a.default.': `10.${octet}.0.7` },
        });
      }
      const askAs = (uid: number): Promise<string> =>
        machine.run(['setpriv', `--reuid=${uid}`, '--clear-groups', 'dig', '+short', 'service-a.default']);
      assert.equal(await askAs(1_001), '10.201.0.7\n');
      assert.equal(await askAs(1_002), '10.202.0.7\n');
      assert.match(await askAs(1_003), /^10\.20[12]\.0\.7\n$/);
    }));
});
