import assert from 'node:assert/strict';
import { isReason, silentLogger } from '../../../src/base/index.ts';
import type { V1Pod } from '../../../src/kube/index.ts';
import { injectionPatch } from '../../../src/manager/injector/patch.ts';
import { planSidecar } from '../../../src/manager/injector/plan.ts';
import { parseReview, reviewAnswer } from '../../../src/manager/injector/webhook.ts';
import { deployment, FakeCluster, planOptions, podOf, webService } from '../../unit/manager/fake-cluster.ts';
import type { Target } from '../target.ts';

const config = (() => {
  const { view } = new FakeCluster(deployment(), webService());
  const workload = view.workload('web', 'shop');
  assert.ok(workload);
  return planSidecar(view, workload, planOptions);
})();

/** Reviews: whatever a pod is made of, it is admitted; what is no review is told so, and nothing else happens. */
export function openReviewTarget(): Target {
  const review = (object: unknown): Uint8Array =>
    Buffer.from(JSON.stringify({ request: { uid: 'u', operation: 'CREATE', namespace: 'shop', object } }));
  return {
    seeds: [
      review(podOf('web', '1')),
      review({ ...podOf('web', '2'), spec: { containers: [], initContainers: [], volumes: [] } }),
      review({ metadata: {}, spec: { containers: [{ name: 'a', ports: [{}], env: [{}], readinessProbe: {} }] } }),
      review(undefined),
    ],
    async run(input) {
      let parsed: ReturnType<typeof parseReview>;
      try {
        parsed = parseReview(Buffer.from(input).toString('utf8'));
      } catch (error) {
        assert.ok(isReason(error, 'manager.bad-request'));
        return;
      }
      const answer = (await reviewAnswer(parsed, {
        patch: async (pod: V1Pod) =>
          injectionPatch(pod, { config, image: 'nearfield/traffic:1', pullPolicy: 'Always' }),
        log: silentLogger,
      })) as { readonly response: { readonly uid: string; readonly allowed: boolean } };
      assert.equal(answer.response.allowed, true);
      assert.equal(answer.response.uid, parsed.request?.uid);
      assert.equal(({} as { x?: unknown }).x, undefined, 'no prototype was changed');
    },
    settle: () => undefined,
    close: () => undefined,
  };
}
