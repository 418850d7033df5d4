/**
 * Compares what SNS accepted with what the adapters sent.
 *
 * Each run of the daemon uses its own request path, so that a duplicate's cause is known: an answer that never reached
 * the daemon, or a kill before the daemon settled what SNS accepted.
 */
import type { StubEntry, StubRequest } from '../support/stub-sns.ts';
import { eventId, type Flaw } from './adapters.ts';

interface Acceptance {
  readonly run: string;
  readonly request: number;
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
  /** The highest number so far for each topic and order key. */
  readonly #highest = new Map<string, number>();
  /** The MessageGroupId of each order key, and vice versa. */
  readonly #groups = new Map<string, string>();
  readonly #keys = new Map<string, string>();
  readonly #problems: string[] = [];
  readonly #unsettled = new Map<string, Map<number, number>>();
  #request: StubRequest | undefined;
  #requests = 0;
  #afterFault = 0;

  /** How many different events SNS has. */
  get size(): number {
    return this.#latest.size;
  }

  /** Duplicates whose first answer was lost. */
  get afterFault(): number {
    return this.#afterFault;
  }

  /**
   * Unsettled notifications of killed runs that were repeated: by the run's request number, how many of its entries.
   */
  get unsettled(): ReadonlyMap<string, ReadonlyMap<number, number>> {
    return this.#unsettled;
  }

  readonly accepted = (entry: StubEntry, request: StubRequest, told: boolean): void => {
    if (request !== this.#request) this.#requests += 1;
    this.#request = request;
    const { path, topicArn } = request;
    const id = entry.attributes.get('event_id') ?? '';
    const key = orderKeyOf(topicArn, entry.message);
    if (topicArn.endsWith('.fifo')) this.#isIdentified(entry, id, key);
    const before = this.#latest.get(id);
    this.#latest.set(id, { run: path, request: this.#requests, told });
    if (!before) this.#keepsOrder(id, `${topicArn} ${key}`);
    else if (!before.told) this.#afterFault += 1;
    else if (before.run === path) this.#problems.push(`${id} was sent again by ${path}, which knew that SNS has it`);
    else this.#countUnsettled(before);
  };

  /** All problems; at most a few of each kind. */
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

  #countUnsettled({ run, request }: Acceptance): void {
    const requests = this.#unsettled.get(run) ?? new Map<number, number>();
    this.#unsettled.set(run, requests.set(request, (requests.get(request) ?? 0) + 1));
  }

  #keepsOrder(id: string, key: string): void {
    const seq = Number(id.slice(id.lastIndexOf('/') + 1));
    const highest = this.#highest.get(key) ?? 0;
    if (seq < highest) this.#problems.push(`${id} came after ${highest} of ${key}`);
    this.#highest.set(key, Math.max(seq, highest));
  }

  /** Checks that a FIFO topic's deduplication id is the event's, and its group the order key or a hash of one key. */
  #isIdentified({ groupId = '', deduplicationId }: StubEntry, id: string, key: string): void {
    if (deduplicationId !== id) this.#problems.push(`${id} came with the deduplication id ${deduplicationId}`);
    const group = this.#groups.get(key) ?? groupId;
    const owner = this.#keys.get(groupId) ?? key;
    this.#groups.set(key, group);
    this.#keys.set(groupId, owner);
    const fits = /^[!-~]{1,128}$/.test(key);
    if (group !== groupId || owner !== key || fits !== (groupId === key))
      this.#problems.push(`${id} of ${key} came in the group ${groupId}`);
  }
}

/** Whose order counts: the user's, a private message's sender's, a room's. */
function orderKeyOf(topicArn: string, message: string): string {
  const { user_id, from_user_id, to_user_id } = JSON.parse(message) as Record<string, string>;
  return String(user_id ?? (topicArn.includes('group') ? to_user_id : from_user_id));
}
