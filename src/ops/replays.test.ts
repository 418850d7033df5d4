import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { deliver } from '../../test/support/reports.ts';
import { createReplayCounter } from './replays.ts';

const notification = (eventId: string) => ({
  ...{ eventId, topic: 't', orderKey: 'k', at: 0, message: '', attributes: [], bytes: 0 },
});
const letter = (eventId: string) => ({
  ...{ eventId, topic: 't', reason: 'r', detail: '', attempts: 1 },
  content: { kind: 'event', event: {} } as const,
});

describe('the counts of a replay', () => {
  it('there are no replay counts before the first replay', () => {
    const { counts, report } = createReplayCounter();
    deliver(report, notification('other'), 1);
    assert.equal(counts(), undefined);
  });

  it('replay counts distinguish accepted, failed and waiting notifications', () => {
    const { counts, asked, report } = createReplayCounter(() => 5);
    asked(4);
    for (const id of ['a', 'b', 'c', 'c']) report.replaying(id);
    deliver(report, notification('a'), 1);
    deliver(report, notification('a'), 1);
    deliver(report, notification('other'), 1);
    report.deadLetter(letter('b'));
    report.deadLetter(letter('other'));
    assert.deepEqual(counts(), { since: 5, asked: 4, taken: 1, deadAgain: 1, waiting: 2 });
  });

  it('replay counts restart with the next replay, and add to one that has not ended', () => {
    let time = 1;
    const { counts, asked, report } = createReplayCounter(() => time++);
    asked(1);
    report.replaying('a');
    report.deadLetter(letter('a'));
    asked(2);
    report.replaying('a');
    asked(3);
    assert.deepEqual(counts(), { since: 2, asked: 5, taken: 0, deadAgain: 0, waiting: 5 });
  });

  it('replay counts include what is picked up before all are marked, or was marked before a restart', () => {
    const { counts, asked, report } = createReplayCounter(() => 5);
    report.replaying('a');
    assert.deepEqual(counts(), { since: 5, asked: 1, taken: 0, deadAgain: 0, waiting: 1 });
    deliver(report, notification('a'), 1);
    asked(2);
    assert.deepEqual(counts(), { since: 5, asked: 2, taken: 1, deadAgain: 0, waiting: 1 });
  });
});
