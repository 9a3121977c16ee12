import type { IpBytes, Scope } from '../../base/index.ts';
import type { Kube } from '../../kube/index.ts';
import type { SettingView } from '../contract.ts';
import type { Attachments } from '../intercept/attachments.ts';
import type { NetworkAttachment } from '../network/attachment.ts';
import type { CheckedChoice } from '../network/choice.ts';
import type { LocalProxy } from '../proxy/proxy.ts';
import type { Catalog } from './catalog.ts';
import type { ManagerSession } from './session.ts';

/** Everything that one connection owns. */
export interface Connection {
  readonly scope: Scope;
  readonly kube: Kube;
  readonly session: ManagerSession;
  readonly catalog: Catalog;
  readonly attachments: Attachments;
  readonly namespace: string;
  readonly managerNamespace: string;
  readonly apiServer: readonly IpBytes[];
  readonly choice: CheckedChoice;
  /** What is wished of the network, and by whom. */
  readonly settings: readonly SettingView[];
  daemon: NetworkAttachment | undefined;
  proxy: LocalProxy | undefined;
}
