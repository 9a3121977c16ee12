import { randomUUID } from 'node:crypto';
import * as vscode from 'vscode';
import type { AttachMode, Attachment, AttachRequest, Connector } from '../../connector/index.ts';

/** Attaches, and says so while it lasts; there it can be cancelled, as by whoever holds the token. Errors are the caller's to show. */
export async function attachWithProgress(
  connector: Connector,
  request: AttachRequest,
  token?: vscode.CancellationToken,
): Promise<Attachment> {
  const name = request.workload.split('/').at(-1) ?? '';
  return vscode.window.withProgress(
    {
      location: vscode.ProgressLocation.Notification,
      title: titleOf(request.mode ?? 'intercept', name),
      cancellable: true,
    },
    async (_, cancelled) => {
      const attempt = randomUUID();
      const cancel = (): void => void connector.cancelAttach(attempt).catch(() => undefined);
      const subscriptions = [cancelled, token].map((each) => each?.onCancellationRequested(cancel));
      try {
        return await connector.attach(request, attempt);
      } finally {
        for (const each of subscriptions) {
          each?.dispose();
        }
      }
    },
  );
}

function titleOf(mode: AttachMode, name: string): string {
  const { t } = vscode.l10n;
  switch (mode) {
    case 'intercept':
      return t('Intercepting {0}', name);
    case 'wiretap':
      return t('Tapping {0}', name);
    case 'replace':
      return t('Replacing the container of {0}', name);
    case 'ingest':
      return t('Taking the environment of {0}', name);
  }
}
