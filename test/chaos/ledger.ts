/**
 * What SNS accepted, held against what the adapters handed over.
 *
 * A run of the daemon is known by the path that its requests go to, so that a duplicate can be told by its cause: an
 * answer that never reached the daemon, or a kill before the daemon had settled what SNS took.
 */
import type { StubEntry, StubRequest } from '../support/stub-sns.ts';
import { eventId, type Flaw } from './adapters.ts';

interface Acceptance {
  readonly run: string;
  readonly told: boolean;
}

export interface Source {
  readonly source: string;
  readonly total: number;
  readonly flaws: ReadonlyMap<number, Flaw>;
}

export class Ledger {
  /** Each event's latest acceptance. */
  readonly #latest = new Map<string, Acceptance>();
  /** The highest number so far of each topic and order key. */
  readonly #highest = new Map<string, number>();
  readonly #problems: string[] = [];
  readonly #afterKill = new Map<string, number>();
  #afterFault = 0;
  #untold = 0;

  /** How many different events SNS has. */
  get size(): number {
    return this.#latest.size;
  }

  /** Duplicates whose earlier answer never came. */
  get afterFault(): number {
    return this.#afterFault;
  }

  /** Acceptances that the daemon could not know of. */
  get untold(): number {
    return this.#untold;
  }

  /** Duplicates of what a run's end left unsettled, by run. */
  get afterKill(): ReadonlyMap<string, number> {
    return this.#afterKill;
  }

  readonly accepted = (entry: StubEntry, { path, topicArn }: StubRequest, told: boolean): void => {
    const id = entry.attributes.get('event_id') ?? '';
    const before = this.#latest.get(id);
    this.#latest.set(id, { run: path, told });
    if (!told) this.#untold += 1;
    if (!before) this.#keepsOrder(id, topicArn, entry.message);
    else if (!before.told) this.#afterFault += 1;
    else if (before.run !== path) this.#afterKill.set(before.run, (this.#afterKill.get(before.run) ?? 0) + 1);
    else this.#problems.push(`${id} was sent again by ${path}, which had been told that SNS has it`);
  };

  /** Everything that went wrong; at most a few of each kind. */
  problems(sources: readonly Source[]): string[] {
    const lost: string[] = [];
    for (const { source, total, flaws } of sources) {
      for (let seq = 1; seq <= total; seq++) {
        const id = eventId(source, seq);
        if (!this.#latest.has(id) && !flaws.has(seq)) lost.push(`${id} was acknowledged, and SNS never had it`);
        if (this.#latest.has(id) && flaws.has(seq)) lost.push(`${id} is ${flaws.get(seq)}, and SNS has it`);
      }
    }
    return [...this.#problems.slice(0, 20), ...lost.slice(0, 20)];
  }

  #keepsOrder(id: string, topicArn: string, message: string): void {
    const slash = id.lastIndexOf('/');
    const key = `${topicArn} ${orderKeyOf(topicArn, message)}`;
    const seq = Number(id.slice(slash + 1));
    const highest = this.#highest.get(key) ?? 0;
    if (seq < highest) this.#problems.push(`${id} came after ${highest} of ${key}`);
    this.#highest.set(key, Math.max(seq, highest));
  }
}

/** Whose order counts: the user's, a private message's sender's, a room's. */
function orderKeyOf(topicArn: string, message: string): string {
  const { user_id, from_user_id, to_user_id } = JSON.parse(message) as Record<string, string>;
  return String(user_id ?? (topicArn.includes('group') ? to_user_id : from_user_id));
}
