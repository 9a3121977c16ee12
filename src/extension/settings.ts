import * as vscode from 'vscode';
import type { NetworkChoice } from '../connector/index.ts';
import type { Consent } from './daemon-launcher/elevation.ts';
import { settingId } from './ids.ts';

/** How this machine gets into the cluster's network: the rungs of the ladder, or the highest that works. */
export const elevations = ['auto', 'service', 'sudo', 'dialog', 'none'] as const;
export type Elevation = (typeof elevations)[number];

/** What may be asked for root, by that setting. */
export function consentOf(elevation: Elevation): Consent {
  return elevation === 'sudo' || elevation === 'dialog' ? elevation : 'any';
}

export interface Settings {
  readonly kubeconfig: string | undefined;
  readonly context: string | undefined;
  readonly namespace: string | undefined;
  readonly managerNamespace: string | undefined;
  readonly serviceAccount: string | undefined;
  readonly image: string | undefined;
  /** Checked by the connector, which says all that is wrong. */
  readonly installOptions: unknown;
  readonly elevation: Elevation;
  readonly network: NetworkChoice;
  /** Whether volumes become files of this machine, where a launch configuration does not say it. */
  readonly mount: boolean;
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
    serviceAccount: read(settingId.serviceAccount),
    image: read(settingId.image),
    // The editor gives a proxy, which cannot go to another thread.
    installOptions: JSON.parse(JSON.stringify(all.get<unknown>(settingId.installOptions) ?? {})) as unknown,
    elevation: elevations.find((each) => each === read(settingId.elevation)) ?? 'auto',
    network: readNetwork(all),
    mount: all.get<unknown>(settingId.mount) !== false,
  };
}

/** A settings file may hold anything: what has not the form is not set. */
function readNetwork(all: vscode.WorkspaceConfiguration): NetworkChoice {
  const texts = (id: string): string[] => {
    const value = all.get<unknown>(id);
    return Array.isArray(value) ? value.filter((each) => typeof each === 'string') : [];
  };
  const mappings = Object.entries(all.get<Record<string, unknown>>(settingId.mappings) ?? {});
  // A default is nobody's wish: what the owner of the cluster wishes goes before it.
  const chosen = all.inspect<unknown>(settingId.timeoutMs);
  const timeoutMs = chosen?.workspaceFolderValue ?? chosen?.workspaceValue ?? chosen?.globalValue;
  return {
    alsoProxy: texts(settingId.alsoProxy),
    neverProxy: texts(settingId.neverProxy),
    allowConflicting: texts(settingId.allowConflicting),
    translateConflicts: all.get<unknown>(settingId.translateConflicts) === true,
    virtualSubnet: String(all.get<unknown>(settingId.virtualSubnet) ?? '').trim() || undefined,
    mappedNamespaces: texts(settingId.mappedNamespaces),
    dns: {
      includeSuffixes: texts(settingId.includeSuffixes),
      excludeSuffixes: texts(settingId.excludeSuffixes),
      excludes: texts(settingId.excludes),
      mappings: mappings.map(([name, aliasFor]) => ({ name, aliasFor: String(aliasFor) })),
      ...(typeof timeoutMs === 'number' ? { timeoutMs } : {}),
    },
  };
}
