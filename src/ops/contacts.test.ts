import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ContactReport } from '../pipeline/report.ts';
import { createContacts } from './contacts.ts';

const START = 1_763_820_000_000;

function setUp() {
  let now = START;
  const contacts = createContacts(() => now);
  return {
    comes(fields: Partial<ContactReport> & { late?: number } = {}) {
      const { late, ...rest } = fields;
      const newestAt = late === undefined ? undefined : now - late;
      const usual = { tap: 'http', source: 'prosody@a', numbered: true, events: 10, newestAt, refused: undefined };
      contacts.report.contact({ ...usual, ...rest });
    },
    pass(seconds: number) {
      for (let second = 0; second < seconds; second += 2) {
        now += 2_000;
        contacts.sample(now);
      }
    },
    setBack(ms: number) {
      now -= ms;
    },
    of: (source = 'prosody@a') => contacts.all(now).get(source),
    count: () => contacts.all(now).size,
    forget: contacts.forget,
  };
}

describe('the contacts of a source', () => {
  it('remembers the last contact whatever the answer, and when events were last accepted', () => {
    const { comes, pass, of } = setUp();
    comes();
    pass(20);
    comes({ refused: 'OUTBOX_FULL' });
    assert.deepEqual([of()?.at, of()?.keptAt], [START + 20_000, START]);
    pass(4);
    comes({ events: 0 });
    assert.deepEqual([of()?.at, of()?.keptAt], [START + 24_000, START]);
  });

  it('reports how often and why a source is refused, until its events are accepted or it stays away', () => {
    const { comes, pass, of } = setUp();
    for (let n = 0; n < 30; n++) {
      for (let m = 0; m < 10; m++) comes({ refused: 'OUTBOX_FULL' });
      pass(2);
    }
    assert.equal(of()?.refused?.reason, 'outbox full');
    assert.ok(Math.abs((of()?.refused?.rate ?? 0) - 5) < 0.1);
    pass(46);
    assert.equal(of()?.refused, undefined);
    comes({ refused: 'OUTBOX_UNUSABLE' });
    assert.equal(of()?.refused?.reason, "outbox can't be written");
    pass(2);
    comes();
    assert.equal(of()?.refused, undefined);
  });

  it('measures the rate of accepted events', () => {
    const { comes, pass, of } = setUp();
    for (let n = 0; n < 30; n++) {
      comes({ events: 100 });
      comes({ events: 100, refused: 'OUTBOX_FULL' });
      pass(2);
    }
    assert.ok(Math.abs((of()?.rate ?? 0) - 50) < 1);
    pass(60);
    assert.ok((of()?.rate ?? 1) < 0.5);
  });

  it('reports a clock that is ahead, because no event comes from the future', () => {
    const { comes, of } = setUp();
    comes({ late: -2_000 });
    assert.equal(of()?.clockMs, 0);
    comes({ late: -120_000 });
    comes({ late: 40 });
    assert.equal(of()?.clockMs, 120_000);
  });

  it('reports old events only if all of them are old', () => {
    const { comes, pass, of } = setUp();
    comes({ late: 600_000 });
    comes({ late: 300_000 });
    assert.equal(of()?.clockMs, -300_000);
    comes({ late: 50 });
    assert.equal(of()?.clockMs, 0);
    pass(130);
    comes({ late: 300_000 });
    assert.equal(of()?.clockMs, -300_000);
  });

  it('copes with this clock being set back', () => {
    const { comes, pass, of, setBack } = setUp();
    comes({ late: 0 });
    setBack(3_600_000);
    pass(4);
    comes({ late: 0 });
    pass(62);
    assert.equal(of()?.at, START - 3_600_000 + 4_000);
  });

  it('forgets a retired source', () => {
    const { comes, of, forget } = setUp();
    comes();
    assert.deepEqual([forget('prosody@a'), of(), forget('prosody@a')], [true, undefined, false]);
  });

  it('remembers the thousand sources heard last', () => {
    const { comes, of, count } = setUp();
    for (let n = 0; n < 1_500; n++) {
      comes({ source: `s${n}` });
      comes({ source: 's0' });
    }
    assert.deepEqual([count(), of('s0')?.source, of('s1'), of('s1499')?.source], [1_000, 's0', undefined, 's1499']);
  });
});
