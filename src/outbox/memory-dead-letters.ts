/** The dead letters of an outbox in memory. */
import type {
  DeadLetter,
  DeadLetterCount,
  DeadLetterFilter,
  DeadLetterPage,
  DeadLetterQuery,
  NewDeadLetter,
  OnProgress,
} from './dead-letters.ts';
import { compareKeys } from './letter-order.ts';
import { namesOf } from './names.ts';

export class MemoryDeadLetters {
  readonly #now: () => number;
  /** By number, ascending. */
  readonly #letters = new Map<number, DeadLetter & { readonly bytes: number }>();
  #lastId = 0;
  #bytes = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  get size(): number {
    return this.#letters.size;
  }

  /** Their size: bytes of their content as JSON. */
  get bytes(): number {
    return this.#bytes;
  }

  add(letter: NewDeadLetter): void {
    const id = ++this.#lastId;
    const bytes = Buffer.byteLength(JSON.stringify(letter.content));
    this.#bytes += bytes;
    this.#letters.set(id, { ...letter, id, diedAt: this.#now(), replayRequested: false, bytes });
  }

  remove(id: number): void {
    this.#bytes -= this.#letters.get(id)?.bytes ?? 0;
    this.#letters.delete(id);
  }

  browse({ filter, sort, descending, offset, limit }: DeadLetterQuery): DeadLetterPage {
    const found = this.#matching(filter).map(({ content, ...summary }) => ({ ...summary, ...namesOf(content) }));
    const direction = descending ? -1 : 1;
    const sorted = found.toSorted((a, b) => direction * (compareKeys(a[sort], b[sort]) || a.id - b.id));
    return { letters: sorted.slice(offset, offset + limit), total: found.length };
  }

  find(filter: DeadLetterFilter, limit: number, afterId = 0): DeadLetter[] {
    const matching = this.#matching(filter).filter(({ id }) => id > afterId);
    return matching.slice(0, limit);
  }

  counts(): DeadLetterCount[] {
    const counts = new Map<string, DeadLetterCount>();
    for (const { reason, topic, id, replayRequested } of this.#letters.values()) {
      const key = `${reason}\n${topic ?? ''}`;
      const { count, replaying } = counts.get(key) ?? { count: 0, replaying: 0 };
      const more = replayRequested ? 1 : 0;
      counts.set(key, { reason, topic, count: count + 1, replaying: replaying + more, newestId: id });
    }
    return [...counts].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, count]) => count);
  }

  toReplay(limit: number): DeadLetter[] {
    return this.#matching({}, true).slice(0, limit);
  }

  requestReplay(filter: DeadLetterFilter, onProgress?: OnProgress): number {
    const matching = this.#matching(filter, false);
    for (const { id } of matching) {
      const letter = this.#letters.get(id);
      if (letter) this.#letters.set(id, { ...letter, replayRequested: true });
    }
    onProgress?.(matching.length);
    return matching.length;
  }

  purge(filter: DeadLetterFilter, onProgress?: OnProgress): number {
    const matching = this.#matching(filter);
    for (const { id } of matching) this.remove(id);
    onProgress?.(matching.length);
    return matching.length;
  }

  /** Oldest first. */
  #matching({ ids, reason, topic, match, upToId }: DeadLetterFilter, replayRequested?: boolean): DeadLetter[] {
    const found = [...this.#letters.values()].filter(
      (letter) =>
        (ids === undefined || ids.includes(letter.id)) &&
        (reason === undefined || letter.reason === reason) &&
        (topic === undefined || letter.topic === topic) &&
        (match === undefined || isFound(letter, match)) &&
        (upToId === undefined || letter.id <= upToId) &&
        (replayRequested === undefined || letter.replayRequested === replayRequested),
    );
    return found.map(({ bytes: _, ...letter }) => letter);
  }
}

function isFound({ eventId, topic, reason, detail, content }: DeadLetter, match: string): boolean {
  const { host, user, room } = namesOf(content);
  const texts = [eventId, topic, reason, reason === 'plugin' ? '' : detail, host, user, room];
  return texts.some((text) => text !== undefined && lower(text).includes(lower(match)));
}

const lower = (text: string): string => text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
