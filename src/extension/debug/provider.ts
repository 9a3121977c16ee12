import * as vscode from 'vscode';
import type { Logger } from '../../base/index.ts';
import type { Attachment, Connector } from '../../connector/index.ts';
import type { ConnectCommand } from '../commands/connect.ts';
import { attachWithProgress } from '../commands/progress.ts';
import { launchAttribute } from '../ids.ts';
import { showError } from '../notify.ts';
import { readSettings } from '../settings.ts';
import { choosePorts, hasPorts, isOfSameKind, type LaunchAttribute, parseAttribute, toRequest } from './attribute.ts';
import { withEnvironment, withProxy } from './environment.ts';

export interface DebugDeps {
  readonly connector: Connector;
  readonly connect: ConnectCommand;
  readonly log: Logger;
}

/** In the resolved configuration: which attachment the session is bound to. Passed through by debuggers. */
const boundKey = '__nearfieldAttachment';

/**
 * F5 with a workload: connects if needed, intercepts, gives the container's environment to the program, and leaves
 * when the last session bound to the attachment ends. Works with every debugger; child sessions pass untouched.
 */
export class DebugIntegration implements vscode.DebugConfigurationProvider {
  readonly #deps: DebugDeps;
  readonly #sessions = new Map<string, string>();
  readonly #keepAlive = new Set<string>();

  constructor(deps: DebugDeps) {
    this.#deps = deps;
  }

  register(): vscode.Disposable {
    return vscode.Disposable.from(
      vscode.debug.registerDebugConfigurationProvider('*', this),
      vscode.debug.onDidStartDebugSession((session) => {
        const name = session.configuration[boundKey] as unknown;
        if (typeof name === 'string' && !session.parentSession) {
          this.#sessions.set(session.id, name);
        }
      }),
      vscode.debug.onDidTerminateDebugSession((session) => void this.#ended(session)),
    );
  }

  async resolveDebugConfigurationWithSubstitutedVariables(
    _folder: vscode.WorkspaceFolder | undefined,
    configuration: vscode.DebugConfiguration,
    token?: vscode.CancellationToken,
  ): Promise<vscode.DebugConfiguration | undefined> {
    const value: unknown = configuration[launchAttribute];
    // Children of a debugger's own carry the parent's configuration along.
    if (value === undefined || configuration.__pendingTargetId !== undefined || configuration[boundKey] !== undefined) {
      return configuration;
    }
    try {
      const attribute = parseAttribute(value);
      const attachment = await this.#attach(attribute, configuration, token);
      if (!attachment) {
        return undefined;
      }
      const { [launchAttribute]: _, ...rest } = configuration;
      const bound = {
        ...rest,
        name: configuration.name,
        type: configuration.type,
        request: configuration.request,
        [boundKey]: attachment.name,
      };
      if (attribute.keepAlive) {
        this.#keepAlive.add(attachment.name);
      }
      if (configuration.request !== 'launch') {
        return bound;
      }
      const { connector } = this.#deps;
      const [environment, proxy] = await Promise.all([
        connector.environment(attachment.name),
        connector.proxyEnvironment(),
      ]);
      return withEnvironment(bound, withProxy(environment, proxy), attribute.env?.exclude ?? []);
    } catch (error) {
      await showError(this.#deps.log, error);
      return undefined;
    }
  }

  async #attach(
    attribute: LaunchAttribute,
    configuration: vscode.DebugConfiguration,
    token?: vscode.CancellationToken,
  ): Promise<Attachment | undefined> {
    const { connector, connect } = this.#deps;
    if (
      connector.snapshot.connection.state !== 'connected' &&
      !(await connect.ensureConnected(attribute.namespace, token))
    ) {
      return undefined;
    }
    const namespace = attribute.namespace ?? connector.snapshot.target?.namespace ?? '';
    const ports = choosePorts(attribute, configuration.env, servicePorts(connector, namespace));
    const request = toRequest(attribute, { namespace, ports, mount: readSettings().mount });
    const present = connector.snapshot.attachments.find((each) => isOfSameKind(each, request));
    if (present?.state === 'active' && hasPorts(present, request)) {
      // A restart of the session keeps what it had.
      return present;
    }
    if (present) {
      await connector.leave(present.name);
    }
    return attachWithProgress(connector, request, token);
  }

  async #ended(session: vscode.DebugSession): Promise<void> {
    const name = this.#sessions.get(session.id);
    this.#sessions.delete(session.id);
    if (name === undefined || this.#keepAlive.has(name) || [...this.#sessions.values()].includes(name)) {
      return;
    }
    const { connector, log } = this.#deps;
    if (connector.snapshot.attachments.some((each) => each.name === name)) {
      await connector
        .leave(name)
        .catch((error: unknown) => log.warn('leaving after the debug session failed', { error }));
    }
  }
}

/** The TCP ports of a namespace's services by number; the first is a guess that the manager corrects. */
function servicePorts(connector: Connector, namespace: string): number[] {
  const found = connector.snapshot.namespaces.find(({ name }) => name === namespace);
  const named = (found?.services ?? [])
    .flatMap(({ ports }) => ports)
    .filter(({ protocol, targetPort }) => protocol === 'TCP' && !/^\d+$/.test(targetPort));
  return named.map(({ port }) => port).filter((port) => port === 8080 || named.length === 1);
}
