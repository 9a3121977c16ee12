import * as vscode from 'vscode';
import type { Logger } from '../../base/index.ts';
import type { Attachment, Connector, WorkloadView } from '../../connector/index.ts';
import { noLaunchConfiguration } from '../errors.ts';
import { launchAttribute } from '../ids.ts';
import { showError } from '../notify.ts';
import { translate } from '../views/trees.ts';
import { attachmentState, attachmentsOf, modeWord, portWords, workloadState } from '../views/words.ts';

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
  const { snapshot } = connector;
  const workload = workloadOf(node);
  const { attachment } = (node ?? {}) as { attachment?: Attachment };
  const candidates = attachment ? [attachment] : workload ? attachmentsOf(workload, snapshot) : [];
  const [only, another] = candidates;
  const items = (candidates.length > 0 ? candidates : snapshot.attachments).map((each) => ({
    label: each.name,
    description: `${modeWord(each.mode, translate)} ${portWords(each)} · ${attachmentState(each, translate)}`,
  }));
  const name =
    only && !another
      ? only.name
      : (await vscode.window.showQuickPick(items, { placeHolder: vscode.l10n.t('Which attachment should end?') }))
          ?.label;
  if (name) {
    await connector.leave(name).catch((error: unknown) => showError(log, error));
  }
}

export function workloadOf(node: unknown): WorkloadView | undefined {
  const { workload } = (node ?? {}) as { workload?: WorkloadView };
  return workload && typeof workload.name === 'string' ? workload : undefined;
}

export async function askWorkload({ snapshot }: Connector): Promise<WorkloadView | undefined> {
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

export interface Choice {
  readonly folder: vscode.WorkspaceFolder;
  readonly configuration: Configuration;
}

/** One that names the workload goes first; one that is alone needs no question. */
export async function chooseConfiguration(workload: WorkloadView): Promise<Choice | undefined> {
  const candidates = candidatesFor(workload);
  if (candidates.length === 0) {
    throw noLaunchConfiguration();
  }
  return candidates.length === 1 ? candidates[0] : (await askConfiguration(workload, candidates))?.choice;
}

/** `none` when the person chose to do without a launch configuration, in the words that are given. */
export async function chooseOrNone(workload: WorkloadView, without: string): Promise<Choice | 'none' | undefined> {
  const chosen = await askConfiguration(workload, candidatesFor(workload), without);
  return chosen && (chosen.choice ?? 'none');
}

function candidatesFor(workload: WorkloadView): readonly Choice[] {
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
  return naming.length > 0 ? naming : all;
}

async function askConfiguration(
  workload: WorkloadView,
  candidates: readonly Choice[],
  without?: string,
): Promise<{ readonly choice: Choice | undefined } | undefined> {
  const items = [
    ...candidates.map((choice) => ({ label: choice.configuration.name, description: choice.folder.name, choice })),
    ...(without === undefined ? [] : [{ label: without, description: '', choice: undefined }]),
  ];
  return vscode.window.showQuickPick(items, {
    placeHolder: vscode.l10n.t('Which program answers for {0}?', workload.name),
  });
}
