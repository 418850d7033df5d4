import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Histogram, Registry } from 'prom-client';
import { TopicHistogram } from './topic-histogram.ts';

const SETTINGS = { name: 'h_seconds', help: 'A test.', buckets: [0.5, 1, 10] };

describe('a histogram by topic', () => {
  it("gives the same text and objects as prom-client's own histogram", async () => {
    const [ours, theirs] = [new Registry(), new Registry()];
    const counted = new TopicHistogram({ ...SETTINGS, registers: [ours] });
    const observed = new Histogram({ ...SETTINGS, labelNames: ['topic'], registers: [theirs] });
    for (const topic of ['a', 'b\n"c"'])
      for (const value of [0, 0.5, 0.6, 1, 9.75, 10, 11, 1e9]) {
        counted.of(topic).observe(value);
        observed.observe({ topic }, value);
      }
    for (const registry of [ours, theirs]) registry.setDefaultLabels({ job: 'j' });
    assert.equal(await ours.metrics(), await theirs.metrics());
    // Without examples, which none of them has.
    const plain = async (registry: Registry) =>
      JSON.parse(JSON.stringify(await registry.getMetricsAsJSON()), (key, value) =>
        key === 'exemplar' ? undefined : value,
      );
    assert.deepEqual(await plain(ours), await plain(theirs));
  });

  it('restarts when its registry is reset', async () => {
    const registry = new Registry();
    const histogram = new TopicHistogram({ ...SETTINGS, registers: [registry] });
    histogram.of('a').observe(1);
    registry.resetMetrics();
    assert.equal((await registry.metrics()).includes('topic'), false);
    histogram.of('a').observe(1);
    assert.match(await registry.metrics(), /^h_seconds_count\{topic="a"\} 1$/m);
  });
});
