import * as vscode from 'vscode';
import type { Logger } from '../../base/index.ts';
import type { Connector, WorkloadView } from '../../connector/index.ts';
import { noLaunchConfiguration } from '../errors.ts';
import { launchAttribute } from '../ids.ts';
import { showError } from '../notify.ts';
import { translate } from '../views/trees.ts';
import { workloadState } from '../views/words.ts';

export interface InterceptDeps {
  readonly connector: Connector;
  readonly log: Logger;
}

type Configuration = vscode.DebugConfiguration & { readonly [launchAttribute]?: { readonly workload?: unknown } };

/** Right-click on a workload: start its program under the debugger, with the intercept bound to that session. */
export async function interceptToDebugSession(deps: InterceptDeps, node: unknown): Promise<void> {
  try {
    const workload = workloadOf(node) ?? (await askWorkload(deps.connector));
    if (!workload) {
      return;
    }
    const chosen = await chooseConfiguration(workload);
    if (!chosen) {
      return;
    }
    const { folder, configuration } = chosen;
    const attribute = {
      ...(configuration[launchAttribute] ?? {}),
      workload: `${workload.kind.toLowerCase()}/${workload.name}`,
      namespace: workload.namespace,
    };
    await vscode.debug.startDebugging(folder, { ...configuration, [launchAttribute]: attribute });
  } catch (error) {
    await showError(deps.log, error);
  }
}

export async function leave({ connector, log }: InterceptDeps, node: unknown): Promise<void> {
  const { attachments } = connector.snapshot;
  const workload = workloadOf(node);
  const found =
    workload && attachments.find((each) => each.workload === workload.name && each.namespace === workload.namespace);
  const name =
    found?.name ??
    (await vscode.window.showQuickPick(
      attachments.map((each) => each.name),
      { placeHolder: vscode.l10n.t('Which attachment should end?') },
    ));
  if (name) {
    await connector.leave(name).catch((error: unknown) => showError(log, error));
  }
}

function workloadOf(node: unknown): WorkloadView | undefined {
  const { workload } = (node ?? {}) as { workload?: WorkloadView };
  return workload && typeof workload.name === 'string' ? workload : undefined;
}

async function askWorkload({ snapshot }: Connector): Promise<WorkloadView | undefined> {
  const items = snapshot.namespaces.flatMap(({ workloads }) =>
    workloads.map((workload) => ({
      label: workload.name,
      description: `${workload.namespace} · ${workloadState(workload, snapshot, translate)}`,
      workload,
    })),
  );
  return (
    await vscode.window.showQuickPick(items, {
      placeHolder: vscode.l10n.t('Which workload should come to this machine?'),
    })
  )?.workload;
}

interface Choice {
  readonly folder: vscode.WorkspaceFolder;
  readonly configuration: Configuration;
}

/** One that names the workload goes first; one that is alone needs no question. */
async function chooseConfiguration(workload: WorkloadView): Promise<Choice | undefined> {
  const all = (vscode.workspace.workspaceFolders ?? []).flatMap((folder) =>
    vscode.workspace
      .getConfiguration('launch', folder.uri)
      .get<Configuration[]>('configurations', [])
      .map((configuration) => ({ folder, configuration })),
  );
  const naming = all.filter(
    ({ configuration }) =>
      String(configuration[launchAttribute]?.workload ?? '')
        .split('/')
        .at(-1) === workload.name,
  );
  const candidates = naming.length > 0 ? naming : all;
  if (candidates.length === 0) {
    throw noLaunchConfiguration();
  }
  if (candidates.length === 1) {
    return candidates[0];
  }
  const items = candidates.map((each) => ({ label: each.configuration.name, description: each.folder.name, each }));
  return (
    await vscode.window.showQuickPick(items, {
      placeHolder: vscode.l10n.t('Which program answers for {0}?', workload.name),
    })
  )?.each;
}
