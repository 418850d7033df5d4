import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ago, bytes, count, countOf, duration, json, percent, printable, printableLines, rate } from './format.js';

describe('figures and texts', () => {
  it('formats figures with significant digits and a unit', () => {
    assert.deepEqual([0, 730, 1_049_600, 2.5e12].map(bytes), ['0 B', '730 B', '1.05 MB', '2.5 TB']);
    assert.deepEqual([0, 0.524, 12.44, 4_000.4].map(rate), ['0', '0.52', '12.4', '4,000']);
    assert.deepEqual([0, 0.001, 0.42].map(percent), ['0 %', '< 1 %', '42 %']);
    const durations = [-5, 27, 4_200, 40_000, 240_000, 10_800_000, 172_800_000].map(duration);
    assert.deepEqual(durations, ['0 ms', '27 ms', '4.2 s', '40 s', '4 min', '3 h', '2 days']);
    assert.deepEqual([ago(1_000, 2_000), ago(0, 65_900)], ['just now', '65 s ago']);
    assert.deepEqual(
      [count(7_000), countOf(1, 'topic'), countOf(2_000, 'topic')],
      ['7,000', '1 topic', '2,000 topics'],
    );
  });

  const STEERING = 'a\u001b[2J\u202eb\u0085\u2028c';

  it('removes control characters and those that change the text direction', () => {
    assert.equal(printable(`${STEERING}\n\td`), 'a·[2J·b··c··d');
    assert.equal(printableLines(`${STEERING}\n\td`), 'a·[2J·b··c\n\td');
  });

  it('escapes such characters in JSON, which keeps its meaning', () => {
    const text = json({ [STEERING]: STEERING }, 2);
    assert.match(text, /^[\n -~]+$/);
    assert.deepEqual(JSON.parse(text), { [STEERING]: STEERING });
  });
});
