/**
 * The last number seen of each source's epoch in one partition. A repeated number comes from a batch that was repeated
 * because its position was not stored.
 */
import { parseEventId } from '../../event-id.ts';
import { BASELINE, NUMBERED, type Numbering, UNNUMBERED } from './parcel.ts';

interface Mark {
  seen: number;
}

/** Most epochs to remember. */
const MOST_MARKS = 10_000;
const ZERO = 48;
const NINE = 57;

export class Marks {
  readonly #marks = new Map<string, Mark>();
  /** The epoch of the last event, `<source>/<epoch>/`: mostly that of the next one too. */
  #prefix: string | undefined;
  #mark: Mark = { seen: 0 };

  /** Whether a numbered event was seen before; remembers it otherwise. Replays and baselines never were. */
  isRepetition(eventId: string, numbering: Numbering): boolean {
    if (numbering === UNNUMBERED) return false;
    const seq = this.#numberAfterPrefix(eventId) ?? this.#change(eventId);
    if (seq === undefined) return false;
    const mark = this.#mark;
    if (numbering === NUMBERED && seq <= mark.seen) return true;
    mark.seen = numbering === BASELINE ? seq : Math.max(mark.seen, seq);
    return false;
  }

  /** An event comes again, and must not count as a repetition then. */
  forget(eventId: string): void {
    const id = parseEventId(eventId);
    const mark = id && this.#marks.get(prefixOf(id));
    if (mark && mark.seen >= id.seq) mark.seen = id.seq - 1;
  }

  /** The number of an event of the same epoch as the last one; undefined for another's. */
  #numberAfterPrefix(eventId: string): number | undefined {
    const prefix = this.#prefix;
    if (prefix === undefined || !eventId.startsWith(prefix)) return undefined;
    let seq = 0;
    for (let at = prefix.length; at < eventId.length; at++) {
      const code = eventId.charCodeAt(at);
      if (code < ZERO || code > NINE || (seq === 0 && code === ZERO)) return undefined;
      seq = seq * 10 + code - ZERO;
    }
    return seq > 0 && Number.isSafeInteger(seq) ? seq : undefined;
  }

  /** Turns to the epoch of an event. @returns the event's number; undefined when it has none */
  #change(eventId: string): number | undefined {
    const id = parseEventId(eventId);
    if (!id) return undefined;
    const prefix = prefixOf(id);
    const mark = this.#marks.get(prefix) ?? { seen: 0 };
    // Reinserted, so that the map's first entry is the least recently used.
    this.#marks.delete(prefix);
    this.#marks.set(prefix, mark);
    const [oldest] = this.#marks.size > MOST_MARKS ? this.#marks.keys() : [];
    if (oldest !== undefined) this.#marks.delete(oldest);
    this.#prefix = prefix;
    this.#mark = mark;
    return id.seq;
  }
}

const prefixOf = ({ source, epoch }: { source: string; epoch: string }): string => `${source}/${epoch}/`;
