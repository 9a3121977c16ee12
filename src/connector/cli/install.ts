import { readFileSync } from 'node:fs';
import { toError } from '../../base/index.ts';
import type { InstallRequest } from '../contract.ts';
import { badInstallOptions } from '../errors.ts';

export const installFlags = {
  image: { type: 'string' },
  options: { type: 'string' },
  'dry-run': { type: 'boolean' },
  'take-over': { type: 'boolean' },
  'even-with-agents': { type: 'boolean' },
} as const;

export const installUsage = `  nearfield install [--dry-run] [--image I] [--options FILE] [--take-over]
                    [--kubeconfig F] [--context C] [--manager-namespace N]
  nearfield uninstall [--even-with-agents] [--options FILE]
                    [--kubeconfig F] [--context C] [--manager-namespace N]
`;

interface InstallValues {
  readonly image?: string | undefined;
  readonly options?: string | undefined;
  readonly 'take-over'?: boolean | undefined;
  readonly 'even-with-agents'?: boolean | undefined;
}

/** The options are a JSON file with the values of the chart. Errors: `connector.bad-install-options`. */
export function readInstall(values: InstallValues): InstallRequest {
  return {
    image: values.image,
    options: values.options === undefined ? undefined : readJson(values.options),
    takeOver: values['take-over'],
    evenWithAgents: values['even-with-agents'],
  };
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw badInstallOptions([toError(error).message]);
  }
}
