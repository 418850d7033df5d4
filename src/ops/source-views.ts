/** What is shown of sources: how far the outbox has heard them, the holes in their numbers, and how they keep in touch. Pure. */
import { rate as formatRate, seconds } from '../format.js';
import type { Health } from '../outbox/outbox.ts';
import type { Hole, SourceState } from '../outbox/sources.ts';
import type { Contact } from './contacts.ts';

/** A source, whose queue may have been made anew: then position and time are the newest queue's, holes those of all. */
interface SourceView extends Omit<SourceState, 'epoch' | 'last'> {
  /** Of one that does not number its events, undefined. */
  readonly epoch: string | undefined;
  readonly last: number | undefined;
  /** Earlier queues of the same source that are remembered. */
  readonly earlier: number;
  /** How many holes of it nobody acknowledged, and the newest of them. */
  readonly newHoles: number;
  readonly newestHole: Hole | undefined;
  /** When it last came, whatever the answer; undefined when it did not since the daemon started. */
  readonly contactAt: number | undefined;
  /** Events per second that were kept, a mean of some 10 s. */
  readonly rate: number;
  /** While it is put off: how often a second, and why. */
  readonly refused: Contact['refused'];
  /** Whether it has not come for longer than `admin.source_silent_after` says. */
  readonly silent: boolean;
  /** See {@link Contact.clockMs}. */
  readonly clockMs: number;
  /** What is odd about it, in words; the worst first. */
  readonly notes: readonly SourceNote[];
}

interface SourceNote {
  /** `bad`: events don't get through; `warn`: look at it; `note`: good to know. */
  readonly tone: 'bad' | 'warn' | 'note';
  readonly text: string;
}

export interface SourceViews {
  /** Those with something wrong first, then those that were heard last: at most a hundred; by name. */
  readonly sources: readonly SourceView[];
  /** What the others come to. */
  readonly otherSources: { readonly count: number; readonly holes: number; readonly missing: number };
}

/** How many sources are shown: a source names itself, so there may be any number. */
const MOST_SOURCES = 100;

/**
 * @param silentMs how long a source may be silent; 0: for as long as it likes
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
  if (refused) notes.push({ tone: 'bad', text: `put off${perSecond(refused.rate)}: ${refused.reason}` });
  if (silent) notes.push({ tone: 'warn', text: `silent for ${seconds(now - last)}` });
  if (clockMs > 0) notes.push({ tone: 'warn', text: `its clock is ${seconds(clockMs)} ahead of the daemon's` });
  if (clockMs < 0) {
    const text = `its events are ${seconds(-clockMs)} old or more when they come: its queue is behind, or its clock slow`;
    notes.push({ tone: 'warn', text });
  }
  if (!numbered) notes.push({ tone: 'note', text: 'does not number its events: repetitions and losses are not seen' });
  return { contactAt: contact?.at, rate, refused, silent, clockMs, notes };
}

/** Adapters that are put off come less and less often. */
const perSecond = (value: number): string => (value < 0.05 ? '' : ` ${formatRate(value)}/s`);
