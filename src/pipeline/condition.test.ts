import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type ConditionName, conditionOf, type TopicFacts, type TopicSample } from './condition.ts';

const NOW = 1_000_000;
const PAUSE = { reason: 'NotFound', detail: 'gone', advice: 'make it', since: 1, began: 2, until: 3 };
const throttled = (ago: number) => ({ at: NOW - ago, reason: 'Throttling', detail: 'too fast', advice: 'raise it' });

/** A sample every 2 s up to now, with the `depth` at so many seconds ago. */
const history = (seconds: number, depth: (ago: number) => number, full = (_ago: number) => false): TopicSample[] =>
  Array.from({ length: seconds / 2 + 1 }, (_, n) => seconds - 2 * n).map((ago) => ({
    at: NOW - ago * 1_000,
    depth: depth(ago),
    full: full(ago),
  }));

const facts = (some: Partial<TopicFacts>): TopicFacts => ({
  at: NOW,
  owned: true,
  pause: undefined,
  throttled: undefined,
  poolSize: 100,
  rate: 3.14,
  history: [],
  before: 'open',
  ...some,
});

const growing = history(60, (ago) => 1_000 - 10 * ago);
const CASES: readonly [string, Partial<TopicFacts>, ConditionName][] = [
  ['nothing is known yet', {}, 'open'],
  ['nobody owns it, whatever else', { owned: false, pause: PAUSE }, 'orphaned'],
  ['it is paused, and was throttled just before', { pause: PAUSE, throttled: throttled(1) }, 'paused'],
  ['it was throttled a moment ago, with every request under way', { throttled: throttled(9_000) }, 'throttled'],
  ['it was throttled half a minute ago', { throttled: throttled(30_000) }, 'open'],
  [
    'every request is under way for 10 s',
    {
      history: history(
        10,
        () => 5,
        () => true,
      ),
    },
    'slow',
  ],
  [
    'every request is under way for 8 s',
    {
      history: history(
        8,
        () => 5,
        () => true,
      ),
    },
    'open',
  ],
  [
    'a request was free for a moment',
    {
      history: history(
        10,
        () => 5,
        (ago) => ago !== 4,
      ),
    },
    'open',
  ],
  [
    'a request was free for a moment while slow',
    {
      before: 'slow',
      history: history(
        10,
        () => 5,
        (ago) => ago === 8,
      ),
    },
    'slow',
  ],
  [
    'requests are free again for 10 s',
    {
      before: 'slow',
      history: history(
        20,
        () => 5,
        (ago) => ago > 10,
      ),
    },
    'open',
  ],
  [
    'others of its account fill the pool and nothing waits',
    {
      history: history(
        10,
        () => 0,
        () => true,
      ),
    },
    'open',
  ],
  ['more comes in than goes out for a minute', { history: growing }, 'behind'],
  ['more comes in than goes out for half a minute', { history: growing.slice(-15) }, 'open'],
  ['a burst is worked off', { history: history(60, (ago) => (ago > 30 ? 0 : ago * 50)) }, 'open'],
  ['a burst has just come', { history: history(60, (ago) => (ago > 10 ? 0 : 5_000)) }, 'open'],
  ['bursts are worked off in between', { history: history(60, (ago) => (ago % 10) * (70 - ago)) }, 'open'],
  ['a few wait, a few more later', { history: history(60, (ago) => 15 - Math.floor(ago / 5)) }, 'open'],
  [
    'it falls behind more slowly than at first',
    { before: 'behind', history: history(60, (ago) => 75 - Math.floor(ago / 5)) },
    'behind',
  ],
  ['it catches up', { before: 'behind', history: history(60, (ago) => 100 + ago) }, 'open'],
];

describe('the condition of a topic', () => {
  for (const [what, some, expected] of CASES)
    it(`the condition is ${expected} if ${what}`, () => {
      const { name, reason, advice } = conditionOf(facts(some));
      assert.equal(name, expected);
      assert.equal(reason !== '' && advice !== '', expected !== 'open');
    });

  it("reports the sink's rate, and by how much the incoming rate exceeds it", () => {
    assert.match(conditionOf(facts({ throttled: throttled(0) })).reason, /it takes 3\.14\/s/);
    assert.match(conditionOf(facts({ history: growing })).reason, /10\/s more/);
  });
});
