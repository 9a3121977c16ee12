import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { request } from 'node:https';
import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { Attack } from './attacks.ts';
import { pour, type Target, within } from './frames.ts';

const limitMs = 20_000;
const reviewPath = '/traffic-agent';

function post(target: Target, body: string | Buffer, path = reviewPath, method = 'POST'): Promise<string> {
  return new Promise((resolve) => {
    const sent = request({ ...target, method, path, rejectUnauthorized: false, timeout: limitMs }, (answer) => {
      answer.resume();
      resolve(String(answer.statusCode));
    });
    sent.on('error', () => resolve('ended by the server'));
    sent.end(body);
  });
}

/** Connections that say this, and then nothing: how many of them the server has ended within the limit. */
const slowly =
  (text: string, isTls: boolean): Attack =>
  async (target) => {
    const sockets = Array.from({ length: 100 }, () =>
      isTls ? connectTls({ ...target, rejectUnauthorized: false }) : connect({ ...target }),
    );
    for (const socket of sockets) {
      socket.on('error', () => undefined).on(isTls ? 'secureConnect' : 'connect', () => socket.write(text));
      socket.resume();
    }
    await within(limitMs, Promise.all(sockets.map((socket) => (socket.destroyed ? undefined : once(socket, 'close')))));
    const ended = sockets.filter(({ destroyed }) => destroyed).length;
    for (const socket of sockets) {
      socket.destroy();
    }
    return `${ended} of 100 ended by the server`;
  };

/** What is sent to the webhook's port by who is not the API server. */
export const webhookAttacks: Readonly<Record<string, Attack>> = {
  'no TLS at all': async (target) => {
    const socket = connect({ ...target });
    socket.on('error', () => undefined);
    socket.resume();
    await pour(socket, randomBytes(64 * 1024), 20, limitMs);
    const isEnded = await within(limitMs, once(socket, 'close'));
    socket.destroy();
    return isEnded ? 'ended by the server' : 'taken';
  },
  'a handshake that stops': slowly('\u0016\u0003\u0001', false),
  'a head that does not end': slowly(`POST ${reviewPath} HTTP/1.1\r\nHost: x\r\n`, true),
  'a body that does not end': slowly(`POST ${reviewPath} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{`, true),
  'a review of a hundred megabytes': (target) => post(target, Buffer.alloc(100 * 1024 * 1024, 0x20)),
  'twenty reviews of five megabytes at once': async (target) => {
    const body = JSON.stringify({ request: { uid: 'u', operation: 'CREATE', object: { x: 'y'.repeat(5_000_000) } } });
    return (await Promise.all(Array.from({ length: 20 }, () => post(target, body)))).join(' ');
  },
  'a review a million levels deep': (target) => post(target, `${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}`),
  'a pod a million levels deep': (target) =>
    post(
      target,
      `{"request":{"uid":"u","operation":"CREATE","object":${'{"spec":'.repeat(500_000)}1${'}'.repeat(500_000)}}}`,
    ),
  'a pod of wrong types': async (target) => {
    const objects = [
      7,
      [],
      { metadata: 7 },
      { spec: [] },
      { spec: { containers: {} } },
      { spec: { containers: [null, 7] } },
    ];
    const send = (object: unknown): Promise<string> =>
      post(target, JSON.stringify({ request: { uid: 'u', operation: 'CREATE', namespace: 'shop', object } }));
    return (await Promise.all(objects.map(send))).join(' ');
  },
  'names of prototypes': (target) =>
    post(
      target,
      '{"__proto__":{"request":1},"request":{"uid":"u","operation":"CREATE","object":{"__proto__":{"x":1}}}}',
    ),
  'a demand to remove all agents': (target) => post(target, '', '/uninstall', 'DELETE'),
};
