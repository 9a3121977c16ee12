import { type Clock, formatIp, type IpBytes, sleep, withTimeout } from '../../../base/index.ts';
import { resolverFailed } from '../../errors.ts';
import type { RunCommand } from '../command.ts';
import type { ResolverBackend, ResolverPlan } from '../contract.ts';
import { reverseZones } from '../reverse-zones.ts';
import { resolversOf } from './resolv-conf.ts';
import { busCall, isOnBus } from './system-bus.ts';

const bus = { service: 'org.freedesktop.resolve1', path: '/org/freedesktop/resolve1' };
const manager = 'org.freedesktop.resolve1.Manager';
/** The resolvers that systemd-resolved itself asks; its own addresses are not among them. */
const upstreamPath = '/run/systemd/resolve/resolv.conf';
const stubs = new Set(['127.0.0.53', '127.0.0.54']);

const inet = 2;
const loopback = ['4', '127', '0', '0', '1'];
/** Answered by our server, always, and below a domain that no other resolver is asked for. */
const sanityName = 'jhfweoitnkgyeta.tel2-search';
const sanityLimitMs = 2_000;
const sanityStepMs = 200;

export interface ResolvedDeps {
  readonly clock: Clock;
  readonly run: RunCommand;
  /** Text of a small file; undefined where there is none. */
  readonly read: (path: string) => string | undefined;
}

/** Whether systemd-resolved runs. */
export const hasResolved = (run: RunCommand): Promise<boolean> => isOnBus(run, bus.service);

/** True for the addresses at which systemd-resolved listens itself. */
export const isStub = (address: IpBytes): boolean => stubs.has(formatIp(address));

/**
 * systemd-resolved asks us for the cluster's names, as it would ask the resolver of any link: it is told by properties
 * of our device, which vanish with the device, even after SIGKILL. It remembers them over a restart of its own.
 */
export class Resolved implements ResolverBackend {
  readonly kind = 'systemd-resolved';
  readonly #deps: ResolvedDeps;
  #applied: { readonly text: string; readonly link: string } | undefined;

  constructor(deps: ResolvedDeps) {
    this.#deps = deps;
  }

  /** Errors: `daemon.resolver-failed`, also when it takes our settings and does not ask us; then none are left. */
  async apply(plan: ResolverPlan): Promise<void> {
    const domains = domainsOf(plan);
    const text = [plan.device, plan.port, ...domains.flat()].join(' ');
    if (this.#applied?.text === text) {
      return;
    }
    const link = await this.#linkOf(plan.device);
    this.#applied = { text, link };
    try {
      // With a port: our server has one of its own, which resolv.conf could not say. Since systemd 246.
      await this.#set('SetLinkDNSEx', 'ia(iayqs)', [link, '1', String(inet), ...loopback, String(plan.port), '']);
      await this.#set('SetLinkDomains', 'ia(sb)', [link, String(domains.length), ...domains.flat()]);
      await this.#set('SetLinkDefaultRoute', 'ib', [link, 'false']);
      // A cluster signs nothing, and we speak neither TLS nor multicast.
      await this.#set('SetLinkDNSSEC', 'is', [link, 'no']);
      await this.#set('SetLinkDNSOverTLS', 'is', [link, 'no']);
      await this.#set('SetLinkLLMNR', 'is', [link, 'no']);
      await this.#set('SetLinkMulticastDNS', 'is', [link, 'no']);
      await this.#checkSanity();
    } catch (error) {
      await this.clear();
      throw resolverFailed(error);
    }
  }

  async clear(): Promise<void> {
    const link = this.#applied?.link;
    this.#applied = undefined;
    if (link !== undefined) {
      // A device that is gone has taken its settings along.
      await this.#set('RevertLink', 'i', [link]).catch(() => undefined);
    }
  }

  /** What it asks itself: it would lead our own questions for a cluster's name back to us. */
  async upstreams(): Promise<readonly IpBytes[] | undefined> {
    const found = resolversOf(this.#deps.read(upstreamPath) ?? '').filter((each) => !isStub(each));
    return found.length > 0 ? found : undefined;
  }

  #set(name: string, signature: string, args: readonly string[]): Promise<string> {
    return busCall(this.#deps.run, bus, { interface: manager, name, signature }, args);
  }

  async #linkOf(device: string): Promise<string> {
    const [link] = JSON.parse(await this.#deps.run('ip', ['-j', 'link', 'show', 'dev', device])) as {
      ifindex: number;
    }[];
    return String(link?.ifindex ?? 0);
  }

  /** It learns of a link's state by itself, and meanwhile has nowhere to ask. */
  async #checkSanity(): Promise<void> {
    const { clock } = this.#deps;
    await withTimeout(clock, sanityLimitMs, 'the first question by systemd-resolved', async (signal) => {
      const args = ['0', sanityName, String(inet), '0'];
      while (!(await this.#set('ResolveHostname', 'isit', args).then(answersLoopback, () => false))) {
        await sleep(clock, sanityStepMs, signal);
      }
    });
  }
}

/** Name and whether it only routes: search domains come first, and may not be both. */
function domainsOf({ searchDomains, routedDomains, subnets }: ResolverPlan): [name: string, routesOnly: string][] {
  const routed = new Set([...routedDomains, ...subnets.flatMap(reverseZones)]);
  return [
    ...searchDomains.map((name): [string, string] => [name, 'false']),
    ...[...routed].filter((name) => !searchDomains.includes(name)).map((name): [string, string] => [name, 'true']),
  ];
}

const answersLoopback = (answer: string): boolean => answer.includes(` ${loopback.join(' ')} `);
