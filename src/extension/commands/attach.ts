import { userInfo } from 'node:os';
import * as vscode from 'vscode';
import type { AttachMode, AttachRequest, PortMapping, RequestFilters, WorkloadView } from '../../connector/index.ts';
import { parsePathFilter } from '../../protocol/index.ts';
import { launchAttribute } from '../ids.ts';
import { showError } from '../notify.ts';
import { readSettings } from '../settings.ts';
import { translate } from '../views/trees.ts';
import { personalFilter, portText, type Read, readFilter, readPorts } from './answers.ts';
import { askWorkload, chooseOrNone, type InterceptDeps, workloadOf } from './intercept.ts';
import { attachWithProgress } from './progress.ts';

/** Asks what a mode needs, then attaches a program that runs already, or starts one under the debugger. */
export async function attachInMode(
  deps: InterceptDeps,
  mode: AttachMode,
  isFiltered: boolean,
  node: unknown,
): Promise<void> {
  try {
    const workload = workloadOf(node) ?? (await askWorkload(deps.connector));
    const filters = workload && (isFiltered ? await askFilter(workload) : {});
    const ports = filters && (mode === 'ingest' ? [] : await askPorts(mode, workload));
    if (!ports) {
      return;
    }
    const chosen = await chooseOrNone(workload, alternativeOf(mode));
    if (chosen === 'none') {
      const mount = readSettings().mount ? {} : undefined;
      await attach(deps, { mode, ...targetOf(workload), ports, filters, mount });
    } else if (chosen) {
      const { folder, configuration } = chosen;
      await vscode.debug.startDebugging(folder, {
        ...configuration,
        [launchAttribute]: { ...configuration[launchAttribute], ...attributeOf(mode, workload, ports, filters) },
      });
    }
  } catch (error) {
    await showError(deps.log, error);
  }
}

const targetOf = ({ kind, name, namespace }: WorkloadView): Pick<AttachRequest, 'workload' | 'namespace'> => ({
  workload: `${kind.toLowerCase()}/${name}`,
  namespace,
});

/** An ingest alone would do nothing that one sees: it comes with a terminal that has the environment. */
async function attach({ connector }: InterceptDeps, request: AttachRequest): Promise<void> {
  const made = await attachWithProgress(connector, request);
  if (request.mode === 'ingest') {
    const [environment, proxy] = await Promise.all([connector.environment(made.name), connector.proxyEnvironment()]);
    vscode.window.createTerminal({ name: made.name, env: { ...forTerminal(environment), ...proxy } }).show();
  }
}

/** A shell of this machine keeps its own paths and home. */
const forTerminal = (environment: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(environment).filter(([key]) => !/^(PATH|HOME|SHELL|USER|PWD|TMPDIR)$/.test(key)));

const alternativeOf = (mode: AttachMode): string =>
  mode === 'ingest'
    ? vscode.l10n.t('Open a terminal with this environment')
    : vscode.l10n.t('None: my program runs already');

function askFilter({ name }: WorkloadView): Promise<RequestFilters | undefined> {
  return ask(
    {
      title: vscode.l10n.t('Which requests to {0} should come here?', name),
      prompt: vscode.l10n.t('Headers as name=value, paths as /api, methods as GET; all others stay in the cluster'),
      value: personalFilter(userInfo().username),
    },
    (text) => readFilter(text, translate),
  );
}

function askPorts(mode: AttachMode, { name }: WorkloadView): Promise<readonly PortMapping[] | undefined> {
  const isReplace = mode === 'replace';
  return ask(
    {
      title: isReplace
        ? vscode.l10n.t('Which ports of the replaced container should come to which ports here?')
        : vscode.l10n.t('To which port of this machine should {0} lead?', name),
      prompt: isReplace
        ? vscode.l10n.t('container port:local port, with commas between; empty means all, with the same numbers')
        : vscode.l10n.t('3000, or with the service port in front: http:3000; several with commas between'),
      value: isReplace ? '' : '8080',
    },
    (text) => readPorts(text, isReplace, translate),
  );
}

/** An input that can only be left with something that can be read, or not at all. */
async function ask<T>(options: vscode.InputBoxOptions, read: (text: string) => Read<T>): Promise<T | undefined> {
  const text = await vscode.window.showInputBox({
    ...options,
    ignoreFocusOut: true,
    validateInput: (each) => {
      const result = read(each);
      return 'fault' in result ? result.fault : undefined;
    },
  });
  const result = text === undefined ? undefined : read(text);
  return result && 'value' in result ? result.value : undefined;
}

/** The answers as the launch configuration's attribute. */
function attributeOf(
  mode: AttachMode,
  workload: WorkloadView,
  ports: readonly PortMapping[],
  { headers = {}, paths = [], methods = [] }: RequestFilters,
): Record<string, unknown> {
  return {
    ...targetOf(workload),
    mode,
    ports: ports.map(portText),
    headers,
    methods,
    pathEqual: [],
    pathPrefix: paths.map((each) => parsePathFilter(each).value),
    pathRegex: [],
  };
}
