import { LinuxNetwork } from '../../../src/daemon/os/linux/network.ts';
import { runLinux } from './machine-linux.ts';
import { describeNetwork } from './platform-contract.ts';

describeNetwork({
  name: 'linux',
  device: 'nf1000',
  create: (machine) => new LinuxNetwork(runLinux(machine)),
  todo: [
    'exceptions and an allowed conflict make the machine look like this',
    'another plan leaves nothing of the one before',
    'a route that was in the way of an allowed conflict is back at the end',
  ],
});
