import * as vscode from 'vscode';
import type { Connector } from '../../connector/index.ts';
import { type ClusterNode, clusterChildren, clusterText } from './cluster-model.ts';
import { connectionRows, type Row, spokenRow } from './connection-model.ts';
import type { Translate } from './words.ts';

const { t } = vscode.l10n;
export const translate: Translate = (text, ...values) => t(text, ...values);

/** Draws the rows of the connection. */
export class ConnectionTree implements vscode.TreeDataProvider<Row> {
  readonly #connector: Connector;
  readonly #changed = new vscode.EventEmitter<undefined>();
  readonly onDidChangeTreeData = this.#changed.event;

  constructor(connector: Connector) {
    this.#connector = connector;
    connector.onSnapshotChanged(() => this.#changed.fire(undefined));
  }

  getChildren(row?: Row): Row[] {
    return row ? [] : connectionRows(this.#connector.snapshot, translate);
  }

  getTreeItem(row: Row): vscode.TreeItem {
    const item = new vscode.TreeItem(row.label);
    item.id = row.id;
    item.description = row.description;
    item.tooltip = row.description;
    item.iconPath = new vscode.ThemeIcon(row.icon);
    item.accessibilityInformation = { label: spokenRow(row) };
    return item;
  }
}

/** Draws namespaces, workloads and services. */
export class ClusterTree implements vscode.TreeDataProvider<ClusterNode> {
  readonly #connector: Connector;
  readonly #changed = new vscode.EventEmitter<undefined>();
  readonly onDidChangeTreeData = this.#changed.event;

  constructor(connector: Connector) {
    this.#connector = connector;
    connector.onSnapshotChanged(() => this.#changed.fire(undefined));
  }

  getChildren(node?: ClusterNode): ClusterNode[] {
    return clusterChildren(this.#connector.snapshot, node);
  }

  getTreeItem(node: ClusterNode): vscode.TreeItem {
    const text = clusterText(this.#connector.snapshot, node, translate);
    const { None, Expanded, Collapsed } = vscode.TreeItemCollapsibleState;
    const item = new vscode.TreeItem(text.label, text.isExpandable ? (text.isExpanded ? Expanded : Collapsed) : None);
    item.id = node.id;
    item.description = text.description;
    item.tooltip = [text.label, text.description, ...(text.details ?? [])].join('\n');
    item.contextValue = text.context;
    item.iconPath = new vscode.ThemeIcon(text.icon);
    item.accessibilityInformation = { label: text.description ? `${text.label}, ${text.description}` : text.label };
    return item;
  }
}
