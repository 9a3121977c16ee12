import type { HealthView } from './contract.ts';
import { daemonGone } from './errors.ts';
import type { NetworkAttachment } from './network/attachment.ts';

/** What is wrong with this machine's end now and a person can repair. */
export function healthOf(daemon: NetworkAttachment | undefined): HealthView[] {
  if (daemon?.view.state !== 'gone') {
    return [...(daemon?.conditions ?? [])];
  }
  const { message, hint } = daemonGone();
  return [{ name: 'daemon.gone', severity: 'error', sentence: `${message}. ${hint ?? ''}` }];
}
