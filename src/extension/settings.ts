import * as vscode from 'vscode';
import { settingId } from './ids.ts';

/** How this machine gets into the cluster's network: the rungs of the ladder, or the highest that works. */
export const elevations = ['auto', 'service', 'sudo', 'none'] as const;
export type Elevation = (typeof elevations)[number];

export interface Settings {
  readonly kubeconfig: string | undefined;
  readonly context: string | undefined;
  readonly namespace: string | undefined;
  readonly managerNamespace: string | undefined;
  readonly image: string | undefined;
  readonly elevation: Elevation;
}

/** Read when a command runs: a change takes effect with the next connect. Empty means not set. */
export function readSettings(): Settings {
  const all = vscode.workspace.getConfiguration();
  const read = (id: string): string | undefined => all.get<string>(id)?.trim() || undefined;
  return {
    kubeconfig: read(settingId.kubeconfig),
    context: read(settingId.context),
    namespace: read(settingId.namespace),
    managerNamespace: read(settingId.managerNamespace),
    image: read(settingId.image),
    elevation: elevations.find((each) => each === read(settingId.elevation)) ?? 'auto',
  };
}
