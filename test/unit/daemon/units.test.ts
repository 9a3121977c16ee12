import { test } from 'node:test';
import { launchdPlist, systemdUnit, windowsService } from '../../../src/daemon/service/units.ts';
import { matchesGolden } from '../../support/golden.ts';

const path = '/opt/nearfield/0123456789abcdef/nearfield-daemon';

test('the units of the three systems are what is checked in', () => {
  matchesGolden('nearfield-daemon@.service', systemdUnit(path));
  matchesGolden('dev.nearfield.daemon.501.plist', launchdPlist(path, 501, 20));
  const lines = windowsService('C:\\Program Files\\Nearfield\\nearfield-daemon.exe', 1000);
  matchesGolden('windows-service.txt', `${lines.map((line) => line.join(' ')).join('\n')}\n`);
});
