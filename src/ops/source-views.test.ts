import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Contact } from './contacts.ts';
import { sourceViews } from './source-views.ts';

const NOW = 1_763_820_000_000;
const HOUR = 3_600_000;
const state = (source: string, heardAt: number, epoch = 'e1') => ({
  ...{ source, epoch, last: 7, holes: 0, missing: 0, heardAt },
});
const contact = (source: string, fields: Partial<Contact> = {}): Contact => ({
  ...{ source, numbered: true, at: NOW, keptAt: NOW, rate: 5, refused: undefined, clockMs: 0 },
  ...fields,
});
const views = (sources: ReturnType<typeof state>[], contacts: Contact[], silentMs = HOUR) =>
  sourceViews({ sources, holes: [] }, new Map(contacts.map((each) => [each.source, each])), silentMs, NOW).sources;
const notes = (...given: Parameters<typeof views>) =>
  views(...given).flatMap(({ notes }) => notes.map(({ tone, text }) => `${tone}: ${text}`));

describe('what is shown of a source', () => {
  it("shows a source's position, last contact and rate", () => {
    const [view] = views([state('a', NOW - 23_000)], [contact('a')]);
    assert.deepEqual([view?.last, view?.heardAt, view?.contactAt, view?.rate], [7, NOW - 23_000, NOW, 5]);
    assert.deepEqual(view?.notes, []);
  });

  it('shows that a source is refused, and why', () => {
    const refused = { rate: 5, reason: 'outbox full' };
    assert.deepEqual(notes([state('a', NOW)], [contact('a', { refused })]), ['bad: refused 5/s for now: outbox full']);
    const rarely = { rate: 0.03, reason: 'outbox full' };
    assert.deepEqual(notes([state('a', NOW)], [contact('a', { refused: rarely })]), [
      'bad: refused for now: outbox full',
    ]);
  });

  it('shows that a source is silent after the configured time, even if it was never heard since the start', () => {
    assert.deepEqual(notes([state('a', NOW - 3 * HOUR)], []), ['warn: silent for 3 h']);
    assert.deepEqual(notes([state('a', NOW - 3 * HOUR)], [contact('a')]), []);
    assert.deepEqual(notes([state('a', NOW - 3 * HOUR)], [], 0), []);
    assert.deepEqual(notes([state('a', NOW - 3 * HOUR)], [], 4 * HOUR), []);
  });

  it("shows that a source's clock is wrong", () => {
    assert.deepEqual(notes([state('a', NOW)], [contact('a', { clockMs: 130_000 })]), [
      "warn: its clock is 2 min ahead of the daemon's",
    ]);
    assert.match(
      String(notes([state('a', NOW)], [contact('a', { clockMs: -300_000 })])),
      /^warn: its events are at least 5 min/,
    );
  });

  it('shows sources that do not number their events', () => {
    const [view] = views([], [contact('posts', { numbered: false, keptAt: undefined, at: NOW - 5 })]);
    assert.deepEqual([view?.source, view?.epoch, view?.last, view?.heardAt], ['posts', undefined, undefined, NOW - 5]);
    assert.match(String(view?.notes[0]?.text), /^does not number its events/);
  });

  it('sorts sources with problems first, among very many', () => {
    const many = Array.from({ length: 150 }, (_, n) => state(`s${String(n).padStart(3, '0')}`, NOW - n));
    const wrong = contact('s149', { refused: { rate: 1, reason: 'outbox full' } });
    const shown = views(many, [wrong]).map(({ source }) => source);
    assert.deepEqual([shown.length, shown.includes('s149'), shown.includes('s099')], [100, true, false]);
  });
});
