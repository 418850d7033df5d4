import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fastify from 'fastify';
import type { Sample } from './flow.ts';
import { servePage } from './page.ts';
import type { State } from './state.ts';

const sample = (at: number, p50: number | null = null): Sample => ({ at, in: 1, out: 1, backlog: 0, p50, p99: p50 });

/** What the page begins with. */
async function snapshotOf(samples: readonly Sample[], state: () => State, headers: Record<string, string> = {}) {
  const server = fastify();
  const access = { login: false, allows: () => true, who: () => ({}) };
  servePage(server, { flow: { samples: () => samples }, state, access });
  const { payload, statusCode } = await server.inject({ url: '/', headers });
  assert.equal(statusCode, 200);
  return JSON.parse(/id="snapshot">(.*?)<\/script>/.exec(payload)?.[1] ?? '');
}

describe('the page', () => {
  const named = { notReady: [{ what: '</script><script>alert(1)', reason: '<!--' }] } as unknown as State;

  it('the page includes the state, the last samples, and the last one with a latency', async () => {
    const samples = [sample(1), sample(2, 27), ...Array.from({ length: 9 }, (_, n) => sample(n + 3))];
    const { hello } = await snapshotOf(samples, () => named);
    assert.deepEqual(
      hello.samples.map(({ at }: Sample) => at),
      [2, 7, 8, 9, 10, 11],
    );
    assert.deepEqual(hello.state, named, 'whatever names hold ends no script');
  });

  it('the page has no figures if the outbox does not answer or the request comes from another site', async () => {
    assert.equal(await snapshotOf([], () => assert.fail('the disk is away')), null);
    assert.equal(await snapshotOf([], () => named, { 'sec-fetch-site': 'cross-site' }), null);
  });
});
