/**
 * Sources as the console shows them: their positions in the outbox, the holes in their numbers, and their contacts.
 * Pure.
 */
import { rate as formatRate, seconds } from '../format.js';
import type { Health } from '../outbox/outbox.ts';
import type { Hole, SourceState } from '../outbox/sources.ts';
import type { Contact } from './contacts.ts';

/** A source. If its queue was recreated, position and time are the newest queue's, and holes those of all. */
interface SourceView extends Omit<SourceState, 'epoch' | 'last'> {
  /** Undefined for a source that doesn't number its events. */
  readonly epoch: string | undefined;
  readonly last: number | undefined;
  /** Earlier queues of the same source that the outbox remembers. */
  readonly earlier: number;
  /** Number of its unacknowledged holes, and the newest of them. */
  readonly newHoles: number;
  readonly newestHole: Hole | undefined;
  /** Its last request, whatever the answer; undefined if none came since the daemon started. */
  readonly contactAt: number | undefined;
  /** Accepted events per second, a mean of some 10 s. */
  readonly rate: number;
  /** While it is put off: refusals per second, and the reason. */
  readonly refused: Contact['refused'];
  /** Whether it has been silent for longer than `admin.source_silent_after`. */
  readonly silent: boolean;
  /** See {@link Contact.clockMs}. */
  readonly clockMs: number;
  /** Its problems in words, the worst first. */
  readonly notes: readonly SourceNote[];
}

interface SourceNote {
  /** `bad`: events don't get through; `warn`: look at it; `note`: good to know. */
  readonly tone: 'bad' | 'warn' | 'note';
  readonly text: string;
}

export interface SourceViews {
  /** At most a hundred, sorted by name: those with problems first, then the most recent. */
  readonly sources: readonly SourceView[];
  /** Totals of the others. */
  readonly otherSources: { readonly count: number; readonly holes: number; readonly missing: number };
}

/** Most sources shown: sources name themselves, so there may be any number. */
const MOST_SOURCES = 100;

/**
 * @param silentMs how long a source may be silent; 0: no limit
 * @param now milliseconds since the Unix epoch
 */
export function sourceViews(
  { sources, holes }: Pick<Health, 'sources' | 'holes'>,
  contacts: ReadonlyMap<string, Contact>,
  silentMs: number,
  now: number,
): SourceViews {
  const bySource = Map.groupBy(holes, ({ source }) => source);
  const views = new Map<string, SourceView>();
  for (const state of sources.toSorted((a, b) => b.heardAt - a.heardAt)) {
    const newest = views.get(state.source);
    if (newest) {
      const sums = {
        holes: newest.holes + state.holes,
        missing: newest.missing + state.missing,
        earlier: newest.earlier + 1,
      };
      views.set(state.source, { ...newest, ...sums });
    } else {
      const of = bySource.get(state.source) ?? [];
      const touch = touchOf(contacts.get(state.source), state.heardAt, silentMs, now);
      views.set(state.source, { ...state, earlier: 0, newHoles: of.length, newestHole: of[0], ...touch });
    }
  }
  for (const contact of contacts.values()) {
    const { source, at, keptAt } = contact;
    if (views.has(source)) continue;
    const unnumbered = { epoch: undefined, last: undefined, holes: 0, missing: 0, earlier: 0 };
    const touch = touchOf(contact, at, silentMs, now);
    views.set(source, { source, ...unnumbered, heardAt: keptAt ?? at, newHoles: 0, newestHole: undefined, ...touch });
  }
  const all = [...views.values()].toSorted((a, b) => concern(b) - concern(a) || b.heardAt - a.heardAt);
  const others = all.slice(MOST_SOURCES);
  const sum = (key: 'holes' | 'missing') => others.reduce((total, view) => total + view[key], 0);
  return {
    sources: all.slice(0, MOST_SOURCES).toSorted((a, b) => a.source.localeCompare(b.source)),
    otherSources: { count: others.length, holes: sum('holes'), missing: sum('missing') },
  };
}

const concern = ({ newHoles, refused, clockMs }: SourceView): number =>
  Number(newHoles > 0) + Number(refused !== undefined) + Number(clockMs !== 0);

function touchOf(contact: Contact | undefined, heardAt: number, silentMs: number, now: number) {
  const last = Math.max(contact?.at ?? 0, heardAt);
  const silent = silentMs > 0 && now - last > silentMs;
  const { rate = 0, refused, clockMs = 0, numbered = true } = contact ?? {};
  const notes: SourceNote[] = [];
  if (refused) notes.push({ tone: 'bad', text: `refused${perSecond(refused.rate)} for now: ${refused.reason}` });
  if (silent) notes.push({ tone: 'warn', text: `silent for ${seconds(now - last)}` });
  if (clockMs > 0) notes.push({ tone: 'warn', text: `its clock is ${seconds(clockMs)} ahead of the daemon's` });
  if (clockMs < 0) {
    const text = `its events are at least ${seconds(-clockMs)} old when they arrive: its queue is behind, or its clock is slow`;
    notes.push({ tone: 'warn', text });
  }
  if (!numbered)
    notes.push({ tone: 'note', text: "does not number its events: duplicates and losses can't be noticed" });
  return { contactAt: contact?.at, rate, refused, silent, clockMs, notes };
}

/** Adapters that are put off retry less and less often. */
const perSecond = (value: number): string => (value < 0.05 ? '' : ` ${formatRate(value)}/s`);
