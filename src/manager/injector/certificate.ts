import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import type { Clock } from '../../base/index.ts';
import { type Kube, kinds, type V1Secret } from '../../kube/index.ts';

export interface WebhookCertificate {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

export const certificateSecret = 'mutator-webhook-tls';
const dayMs = 24 * 3_600_000;
const lifeDays = 365;
/** Renewed while this much of its life is left. */
const renewalDays = 30;
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

/** The webhook's certificate from its Secret, or a new one with an authority of its own, stored there. */
export async function ensureCertificate(kube: Kube, namespace: string, clock: Clock): Promise<WebhookCertificate> {
  const secret = await kube.get<V1Secret>(kinds.secret, certificateSecret, namespace);
  const stored = secret && readSecret(secret);
  if (stored && isFresh(stored, clock)) {
    return stored;
  }
  const made = await makeCertificate(namespace, clock);
  const encode = (text: string): string => Buffer.from(text).toString('base64');
  await kube.apply({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: certificateSecret, namespace },
    ...{
      type: 'Opaque',
      data: { 'ca.crt': encode(made.ca), 'tls.crt': encode(made.certificate), 'tls.key': encode(made.key) },
    },
  });
  return made;
}

function readSecret(secret: V1Secret): WebhookCertificate | undefined {
  const read = (key: string): string => Buffer.from(secret.data?.[key] ?? '', 'base64').toString();
  const [ca, certificate, key] = [read('ca.crt'), read('tls.crt'), read('tls.key')];
  return ca && certificate && key ? { ca, certificate, key } : undefined;
}

function isFresh({ certificate }: WebhookCertificate, clock: Clock): boolean {
  try {
    return new x509.X509Certificate(certificate).notAfter.getTime() - clock.wallMs() > renewalDays * dayMs;
  } catch {
    return false;
  }
}

export async function makeCertificate(namespace: string, clock: Clock): Promise<WebhookCertificate> {
  x509.cryptoProvider.set(webcrypto as never);
  const validity = {
    notBefore: new Date(clock.wallMs() - dayMs),
    notAfter: new Date(clock.wallMs() + lifeDays * dayMs),
  };
  const newKeys = (): Promise<webcrypto.CryptoKeyPair> =>
    webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']) as Promise<webcrypto.CryptoKeyPair>;
  const serial = (): string => Buffer.from(webcrypto.getRandomValues(new Uint8Array(15))).toString('hex');
  const [authorityKeys, keys] = await Promise.all([newKeys(), newKeys()]);
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=agent-injector-ca',
    keys: authorityKeys,
    serialNumber: serial(),
    signingAlgorithm: algorithm,
    ...validity,
    extensions: [
      new x509.BasicConstraintsExtension(true, 1, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
    ],
  });
  const names = [
    `agent-injector.${namespace}.svc`,
    `agent-injector.${namespace}`,
    `agent-injector.${namespace}.svc.cluster.local`,
  ];
  const leaf = await x509.X509CertificateGenerator.create({
    subject: `CN=agent-injector.${namespace}`,
    issuer: authority.subject,
    publicKey: keys.publicKey,
    signingKey: authorityKeys.privateKey,
    serialNumber: serial(),
    signingAlgorithm: algorithm,
    ...validity,
    extensions: [
      new x509.SubjectAlternativeNameExtension(names.map((value) => ({ type: 'dns', value }) as const)),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
    ],
  });
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  return {
    ca: authority.toString('pem'),
    certificate: leaf.toString('pem'),
    key: `-----BEGIN PRIVATE KEY-----\n${der.replace(/(.{64})/g, '$1\n').trimEnd()}\n-----END PRIVATE KEY-----\n`,
  };
}
