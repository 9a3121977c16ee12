import { access, mkdir, mkdtemp, readdir, readFile, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { waitFor } from '../cluster/shell.ts';
import { type Machine, openMachine } from './machine.ts';

const systemd = '/lib/systemd/systemd';
const bootLimitMs = 15_000;
/** What a service without declarations of its own is after; the rest of a Debian system stays off. */
const targets = ['basic', 'sysinit', 'shutdown', 'multi-user', 'network', 'sockets', 'timers', 'paths', 'slices'];

/** `$1` is a folder on a disk, `$2` the cgroup. What systemd says would go to the console of the machine that tests. */
const boot = `
set -e
echo $$ >"$2/cgroup.procs"
exec unshare --pid --fork --kill-child --mount --mount-proc --cgroup --propagation private -- sh -c '
  set -e
  mkdir -p "$1/opt" "$1/opt-work" "$1/units" "$1/empty"
  mount -t overlay overlay -o "lowerdir=/opt,upperdir=$1/opt,workdir=$1/opt-work" /opt
  mount -t tmpfs tmpfs /run
  mount --bind /dev/null /dev/console
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  for name in ${targets.join(' ')}; do cp "/lib/systemd/system/$name.target" "$1/units/"; done
  mount --bind "$1/units" /lib/systemd/system
  # Nothing of the machine that tests may be started a second time.
  for folder in system-generators system-environment-generators; do mount --bind "$1/empty" "/lib/systemd/$folder"; done
  rm -rf /etc/systemd /etc/init.d /etc/fstab
  mkdir -p /etc/systemd/system
  printf "[Manager]\\nDefaultStandardOutput=null\\nDefaultStandardError=null\\nShowStatus=no\\n" >/etc/systemd/system.conf
  exec env -i container=nearfield PATH=/usr/sbin:/usr/bin:/sbin:/bin ${systemd} --unit=multi-user.target --log-target=null
' sh "$1"
`;

/** A machine whose process 1 is a real systemd, with a hierarchy of cgroups of its own, and no units but ours.
 * Undefined where there is no systemd, or no cgroups of the second version to give it. */
export async function openSystemdMachine(): Promise<Machine | undefined> {
  const cgroups = (await readFile('/proc/mounts', 'utf8')).split('\n').find((line) => line.split(' ')[2] === 'cgroup2');
  const isThere = await access(systemd).then(
    () => true,
    () => false,
  );
  const mounted = cgroups?.split(' ')[1];
  if (!isThere || mounted === undefined) {
    return undefined;
  }
  const machine = await openMachine();
  const cgroup = await mkdtemp(join(mounted, 'nearfield-test-'));
  const folder = join(machine.folder, 'systemd');
  await mkdir(folder);
  const init = machine.start(['sh', '-c', boot, 'sh', folder, cgroup]);
  const close = async (): Promise<void> => {
    await machine.close();
    await removeGroups(cgroup);
  };
  try {
    const pid = await waitFor(
      'systemd',
      bootLimitMs,
      async () => (await machine.run(['pgrep', '-x', 'systemd']).catch(() => '')).trim() || undefined,
    );
    const enter = ['nsenter', '--target', pid, '--mount', '--pid', '--cgroup', '--wd=/', '--'];
    const inside: Machine = {
      ...machine,
      run: (command, options) => machine.run([...enter, ...command], options),
      start: (command) => machine.start([...enter, ...command]),
      close,
    };
    await waitFor('multi-user.target', bootLimitMs, async () =>
      (await inside.run(['systemctl', 'is-active', 'multi-user.target']).catch(() => '')).trim() === 'active'
        ? true
        : undefined,
    );
    return inside;
  } catch (error) {
    await close();
    throw new Error(`systemd did not boot: ${init.log()}`, { cause: error });
  }
}

/** From the innermost: the kernel makes and keeps the files in them. */
async function removeGroups(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) {
      await removeGroups(join(folder, entry.name));
    }
  }
  // A process that has just ended still counts for a moment.
  await waitFor('the end of a cgroup', 5_000, () =>
    rmdir(folder).then(
      () => true,
      () => undefined,
    ),
  );
}
