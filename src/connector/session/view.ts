import type { ConnectorSnapshot } from '../contract.ts';
import type { ManagerSession } from './session.ts';

/** The traffic-manager as a person sees it; undefined while it has not said who it is. */
export function viewOfManager({ version, agentImage, way }: ManagerSession): ConnectorSnapshot['manager'] {
  return version && { name: version.name, version: version.version, agentImage, ...(way ? { way } : {}) };
}
