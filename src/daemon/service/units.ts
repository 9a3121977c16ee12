/** What tells each system to run the daemon by itself. Texts only; who writes them is `services.ts`. */

/**
 * A systemd template: the instance's name is the user's number. It may change the network and nothing else; the
 * clean-up after a kill is the unit's own, for a kill ends all of its processes. It begins when it serves, and is ended
 * when its beats stay away: without a core, which would be a hundred megabytes that nobody reads.
 */
export function systemdUnit(path: string): string {
  return `[Unit]
Description=Nearfield network daemon of user %i
Documentation=https://github.com/nearfield/nearfield
After=network.target

[Service]
Type=notify
NotifyAccess=main
WatchdogSec=20
WatchdogSignal=SIGKILL
ExecStart=${path} run --uid %i --gid %i --service
ExecStopPost=${path} cleanup --uid %i --unless-running
Restart=on-failure
RestartSec=1
KillMode=control-group
TimeoutStopSec=10
RuntimeDirectory=nearfield
RuntimeDirectoryPreserve=yes
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL
DeviceAllow=/dev/net/tun rw
DevicePolicy=closed
LockPersonality=yes
MemoryMax=400M
NoNewPrivileges=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectSystem=strict
ReadWritePaths=/run
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
UMask=0022

[Install]
WantedBy=multi-user.target
`;
}

/** launchd: kept alive, started at boot, as root by being a daemon and not an agent. */
export function launchdPlist(path: string, uid: number, gid: number): string {
  const words = [path, 'run', '--uid', String(uid), '--gid', String(gid), '--service'];
  return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>dev.nearfield.daemon.${uid}</string>
  <key>ProgramArguments</key>
  <array>
${words.map((word) => `    <string>${word}</string>`).join('\n')}
  </array>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <true/>
  <key>ProcessType</key>
  <string>Interactive</string>
</dict>
</plist>
`;
}

/** Arguments for `sc.exe`, which makes the Windows service. */
export function windowsService(path: string, uid: number): readonly (readonly string[])[] {
  const name = `nearfield-${uid}`;
  const line = `"${path}" run --uid ${uid} --gid ${uid} --service`;
  return [
    ['create', name, 'binPath=', line, 'start=', 'auto', 'DisplayName=', 'Nearfield network daemon'],
    ['failure', name, 'reset=', '60', 'actions=', 'restart/1000/restart/5000'],
  ];
}
