/**
 * Handles each event once, however often it is delivered.
 *
 * - An event is claimed before it is handled and marked as done afterwards. If a handler fails or a consumer dies, the
 *   claim expires, and the next delivery is handled: at least once, and exactly once unless a consumer dies between
 *   handling and marking.
 * - While one consumer holds the claim, others fail with `busy`, so their delivery is repeated.
 */
import { ConsumerError } from './error.ts';
import type { Notification } from './notification.ts';

/** Stores claims. */
export interface ClaimStore {
  /** Claims an event for so long: `claimed`, `busy` if another consumer holds it, or `done`. */
  claim(id: string, owner: string, leaseMs: number): Promise<'claimed' | 'busy' | 'done'>;
  /** Marks an event as handled, and remembers that for so long. */
  done(id: string, owner: string, keepMs: number): Promise<void>;
  /** Releases a claim if this owner still holds it. */
  release(id: string, owner: string): Promise<void>;
}

export interface DedupeOptions {
  /** How long a handler may take; then another consumer may claim the event. One minute. */
  readonly leaseMs?: number;
  /** How long an event is remembered. Four days, as long as SQS keeps messages by default. */
  readonly keepMs?: number;
}

const MINUTE_MS = 60_000;

/**
 * Makes a function that runs a handler unless the event was handled already.
 * @returns `handled` or `repeated`
 * @throws ConsumerError `no-id` without `event_id`, `busy` while another consumer handles it; and the handler's errors
 */
export function dedupe(
  store: ClaimStore,
  { leaseMs = MINUTE_MS, keepMs = 4 * 24 * 60 * MINUTE_MS }: DedupeOptions = {},
) {
  return async <T extends Notification>(
    notification: T,
    handle: (notification: T) => unknown,
  ): Promise<'handled' | 'repeated'> => {
    const { id } = notification;
    if (id === undefined)
      throw new ConsumerError('no-id', 'has no id: add "event_id" to the daemon\'s attributes or body_fields');
    const owner = crypto.randomUUID();
    const answer = await store.claim(id, owner, leaseMs);
    if (answer === 'done') return 'repeated';
    if (answer === 'busy') throw new ConsumerError('busy', 'another consumer is handling this event');
    try {
      await handle(notification);
    } catch (error) {
      await store.release(id, owner);
      throw error;
    }
    await store.done(id, owner, keepMs);
    return 'handled';
  };
}
