import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from './shell.ts';

interface Leaf {
  readonly name: string;
  readonly subject: string;
  readonly alternativeNames: string;
}

/** A certificate authority for one life of the cluster, and what it signed. Thirty days: nothing outlives a test. */
export async function createPki(folder: string, leaves: readonly Leaf[]): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const openssl = (...args: string[]): Promise<string> => run('openssl', args, { cwd: folder });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  await openssl(
    'req',
    '-x509',
    ...newKey,
    '-keyout',
    'ca.key',
    '-out',
    'ca.crt',
    '-days',
    '30',
    '-subj',
    '/CN=nearfield-test',
  );
  for (const { name, subject, alternativeNames } of leaves) {
    await writeFile(
      join(folder, `${name}.ext`),
      `subjectAltName=${alternativeNames}\nextendedKeyUsage=serverAuth,clientAuth\n`,
    );
    await openssl('req', ...newKey, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', subject);
    await openssl(
      ...['x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial'],
      ...['-out', `${name}.crt`, '-days', '30', '-extfile', `${name}.ext`],
    );
  }
  await openssl('genrsa', '-out', 'sa.key', '2048');
  await openssl('rsa', '-in', 'sa.key', '-pubout', '-out', 'sa.pub');
}

export async function writeKubeconfig(path: string, folder: string, leaf: string, server: string): Promise<void> {
  const base64 = async (file: string): Promise<string> => (await readFile(join(folder, file))).toString('base64');
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'nearfield-test', cluster: { server, 'certificate-authority-data': await base64('ca.crt') } }],
    users: [
      {
        name: leaf,
        user: {
          'client-certificate-data': await base64(`${leaf}.crt`),
          'client-key-data': await base64(`${leaf}.key`),
        },
      },
    ],
    contexts: [
      { name: 'nearfield-test', context: { cluster: 'nearfield-test', user: leaf, namespace: 'service-a-ns' } },
    ],
    'current-context': 'nearfield-test',
  };
  await writeFile(path, JSON.stringify(config, undefined, 2), { mode: 0o600 });
}
