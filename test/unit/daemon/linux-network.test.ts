import { LinuxNetwork } from '../../../src/daemon/os/linux/network.ts';
import { HandClock } from '../manager/hand-clock.ts';
import { runLinux } from './machine-linux.ts';
import { describeNetwork } from './platform-contract.ts';

describeNetwork({
  name: 'linux',
  device: 'nf1000',
  create: (machine) => new LinuxNetwork(runLinux(machine), new HandClock()),
});
