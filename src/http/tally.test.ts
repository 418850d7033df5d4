import assert from 'node:assert/strict';
import { beforeEach, describe, it, type TestContext } from 'node:test';
import { createTally, type Tally } from './tally.ts';

describe('lines that anybody can cause', () => {
  let lines: [string, string, number][];
  let tally: Tally;
  beforeEach(() => {
    lines = [];
    tally = createTally({ everyMs: 60_000, most: 3 });
  });
  const add = (kind: string, from: string, times = 1) => {
    for (let n = 0; n < times; n++) tally.add(kind, from, ({ from, count }) => lines.push([kind, from, count]));
  };
  const minute = (t: TestContext) => t.mock.timers.tick(60_000);

  it('logs the first line of a kind at once, then one a minute with the count', (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    add('wrong', '10.0.0.1', 1_000);
    add('wrong', '10.0.0.2');
    add('foreign', '10.0.0.1');
    assert.deepEqual(lines.splice(0), [
      ['wrong', '10.0.0.1', 1],
      ['wrong', '10.0.0.2', 1],
      ['foreign', '10.0.0.1', 1],
    ]);
    minute(t);
    assert.deepEqual(lines.splice(0), [['wrong', '10.0.0.1', 999]]);
    add('wrong', '10.0.0.1', 5);
    minute(t);
    assert.deepEqual(lines.splice(0), [['wrong', '10.0.0.1', 5]]);
    minute(t);
    assert.deepEqual(lines, []);
    add('wrong', '10.0.0.1');
    assert.deepEqual(lines, [['wrong', '10.0.0.1', 1]], 'after a quiet minute it is the first again');
  });

  it('logs only a count for addresses beyond the limit', (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    for (let n = 0; n < 100; n++) add('wrong', `10.0.0.${n}`);
    assert.equal(lines.splice(0).length, 3);
    minute(t);
    assert.deepEqual(lines, [['wrong', 'other addresses', 97]]);
  });

  it('counts lines per IPv6 network', () => {
    for (let n = 1; n <= 50; n++) add('wrong', `2001:db8::${n}`);
    assert.deepEqual(lines.splice(0), [['wrong', '2001:db8::1', 1]]);
    tally.close();
    assert.deepEqual(lines, [['wrong', '2001:db8::1', 49]]);
  });
});
