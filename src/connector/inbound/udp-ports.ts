import { readFile } from 'node:fs/promises';

const tables = ['/proc/net/udp', '/proc/net/udp6'];
const unconnected = '07';

/**
 * Whether a program of this machine waits for datagrams at a port. UDP has no handshake that would tell, and a caller's
 * first datagram must not be lost to find out. Where the system has no such table: undefined, and the refusal comes
 * with the first datagram.
 */
export async function isUdpPortBound(port: number): Promise<boolean | undefined> {
  const texts = await Promise.all(tables.map((path) => readFile(path, 'utf8').catch(() => undefined)));
  const readable = texts.filter((text) => text !== undefined);
  return readable.length === 0 ? undefined : readable.some((text) => listensAt(text, port));
}

/** Reads a table as proc(5) describes it: `sl local_address rem_address st …`, addresses and ports in hexadecimal. */
export function listensAt(table: string, port: number): boolean {
  const wanted = port.toString(16).toUpperCase().padStart(4, '0');
  return table.split('\n').some((line) => {
    const [, local = '', , state] = line.trim().split(/\s+/);
    const [address = '', number] = local.split(':');
    return state === unconnected && number === wanted && isLoopbackOrAny(address);
  });
}

/** Words of 32 bits in the byte order of the machine: 127.x.x.x ends in 7F on most, and begins with it on the others. */
function isLoopbackOrAny(address: string): boolean {
  return (
    /^0+$/.test(address) ||
    (address.length === 8 && (address.endsWith('7F') || address.startsWith('7F'))) ||
    /^0{24}(01000000|00000001)$/.test(address) ||
    /^0{16}(0000FFFF|FFFF0000)(.{6}7F|7F.{6})$/.test(address)
  );
}
