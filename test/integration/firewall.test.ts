import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { waitFor } from '../cluster/shell.ts';
import { type Machine, openMachine, startConnector, startDaemon } from '../support/machine.ts';
import { unpacked } from '../support/packages.ts';

/** A firewall that holds back whatever comes in unasked. */
interface Kind {
  readonly name: string;
  readonly packages?: readonly string[];
  /** Shell lines that bring it up. */
  readonly up: string;
  /** Shell lines after which our rule is gone: a reload, where that does it. */
  readonly forget: string;
  /** Shell lines that print it all. */
  readonly state: string;
}

const native = (rules: string): string => `nft -f - <<'END'
table inet mine
delete table inet mine
table inet mine {
${rules}
}
END
`;

/** The usual head of a chain that drops: what is known comes in, and this machine may talk to itself. */
const established = 'ct state established,related accept; iifname "lo" accept;';
const policyDrop = native(`chain input { type filter hook input priority filter; policy drop; ${established} }`);
const finalReject = native(`chain input { type filter hook input priority filter; policy accept; ${established}
  jump checked; accept; }
chain checked { tcp dport 22 accept; reject with icmpx admin-prohibited; }`);
const rawDrop = native(`chain raw { type filter hook prerouting priority raw; policy drop; iifname "lo" accept; }`);

const iptables = (program: string): string => `for program in ${program} ${program.replace('ip', 'ip6')}; do
  $program -w -P INPUT DROP
  $program -w -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
  $program -w -A INPUT -i lo -j ACCEPT
done
`;

/** By what it says: a rule that is gone already must not be taken for the next one. */
const deleteOurs = (program: string): string =>
  [program, program.replace('ip', 'ip6')]
    .map((each) => `${each} -D INPUT -i nf0 -m comment --comment 'nearfield nf0' -j ACCEPT || true`)
    .join('\n');

/** What the packages' own scripts do when they are installed. */
const installUfw = `cd /usr/share/ufw
for name in before after user; do cp $name.rules \${name}6.rules /etc/ufw/; done
cp ufw.conf before.init after.init /etc/ufw/
`;
const startFirewalld = `mkdir -p /run/dbus
cd /usr/share/polkit-1/actions
cp org.fedoraproject.FirewallD1.server.policy.choice org.fedoraproject.FirewallD1.policy
dbus-daemon --system --fork
firewalld --nofork --nopid >/run/firewalld.log 2>&1 &
for _ in $(seq 100); do firewall-cmd --state >/dev/null 2>&1 && exit 0; done
exit 1
`;

const nftState = 'nft -s list ruleset 2>/dev/null';
const kinds: readonly Kind[] = [
  { name: 'nftables that drop by policy', up: policyDrop, forget: policyDrop, state: nftState },
  { name: 'nftables that reject at the end', up: finalReject, forget: finalReject, state: nftState },
  { name: 'nftables that drop before routing', up: rawDrop, forget: rawDrop, state: nftState },
  {
    name: 'iptables on nftables',
    up: iptables('iptables-nft'),
    forget: deleteOurs('iptables-nft'),
    state: nftState,
  },
  {
    name: 'iptables from before nftables',
    up: iptables('iptables-legacy'),
    forget: deleteOurs('iptables-legacy'),
    state: 'iptables-legacy -S; ip6tables-legacy -S',
  },
  {
    name: 'ufw',
    packages: ['ufw'],
    up: `${installUfw} ufw --force enable; ufw reload`,
    forget: deleteOurs('iptables'),
    state: 'iptables -S; ip6tables -S; nft list tables',
  },
  {
    name: 'firewalld',
    packages: [
      ...['firewalld', 'python3-firewall', 'python3-nftables', 'python3-gi', 'python3-cap-ng'],
      ...['libgirepository-1.0-1', 'gir1.2-glib-2.0', 'ipset', 'libipset13'],
    ],
    up: startFirewalld,
    forget: 'firewall-cmd --reload',
    // It keeps the empty chains of a zone that was in use once.
    state: 'nft list ruleset | grep nf0; nft list tables; firewall-cmd --get-active-zones',
  },
];

const shell = (machine: Machine, lines: string): Promise<string> =>
  machine.run(['env', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'bash', '-c', lines]);

/** Connects, and gets its own words back. */
const say = (machine: Machine, host: string, seconds = 5): Promise<string> =>
  shell(machine, `timeout ${seconds} bash -c 'exec 3<>/dev/tcp/${host}/8080 && echo hello >&3 && head -n 1 <&3'`);

const hosts = ['10.201.0.7', 'fd00:201::7'];
const connects = async (machine: Machine): Promise<true | undefined> => {
  for (const host of hosts) {
    assert.equal(await say(machine, host), 'hello\n');
  }
  return true;
};

// Most of a test's time is waiting for the slow check.
suite('the whole daemon behind a firewall', { concurrency: 4 }, () => {
  for (const { name, packages, up, forget, state } of kinds) {
    test(`connections come through ${name}, and nothing of ours stays`, async (context) => {
      const files = packages && (await unpacked(packages));
      if (packages && !files) {
        context.skip('no apt here');
        return;
      }
      const machine = await openMachine(files === undefined ? {} : { packages: files });
      try {
        await shell(machine, up);
        const before = await shell(machine, state);
        const start = async () => {
          const daemon = await startDaemon(machine);
          await startConnector(machine, { network: { subnets: ['10.201.0.0/16', 'fd00:201::/64'] } });
          return daemon;
        };

        const first = await start();
        await connects(machine);
        // Without our rule nothing gets through: so it was our rule that let it. Where the slow check has put it back
        // before the look, as on a busy machine, there is another look.
        await waitFor('a firewall that blocks', 20_000, async () => {
          await shell(machine, forget);
          await Promise.all(hosts.map((host) => assert.rejects(say(machine, host, 0.8))));
          return true;
        });
        await waitFor('our rule', 20_000, () => connects(machine));
        await first.kill();
        assert.equal(await shell(machine, state), before);

        const second = await start();
        await connects(machine);
        await second.kill('SIGKILL');
        await shell(machine, `'${process.execPath}' '${machine.daemon}' cleanup --uid 0`);
        assert.equal(await shell(machine, state), before);
      } finally {
        await machine.close();
      }
    });
  }
});
