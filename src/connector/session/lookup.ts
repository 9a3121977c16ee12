import type { ManagerSession } from './session.ts';

const lookupTimeoutMs = 4_000;

/** A name's records as the cluster knows them: the DNS response code, and the records uncompressed. Rejects when nobody can be asked. */
export async function lookupName(
  session: ManagerSession,
  name: string,
  type: number,
): Promise<{ rcode: number; records: Uint8Array }> {
  const { rCode, rrs } = await session.call(
    'the name lookup',
    (manager, signal) => manager.lookupDNS({ session: { sessionId: session.sessionId }, name, type }, { signal }),
    lookupTimeoutMs,
  );
  return { rcode: rCode, records: rrs };
}
