/** A host program's tap: accepts events in process. */

import { z } from 'zod';
import { PusherError } from '../errors.ts';
import { isMalformed, type MalformedEvent, type NewEvent, parseEvent, problemOf } from '../event.ts';
import { epochName, firstSeq, sourceName } from './batch.ts';
import type { Batch, Receipt, Receive, Tap } from './tap.ts';

/** A batch of events from a host program; docs/tap-protocol.md defines an event. */
export interface GivenBatch extends Pick<Batch, 'source' | 'numbering' | 'traceparent'> {
  /** Validated here: a malformed event is refused alone, with its reason in the receipt. */
  readonly events: readonly unknown[];
}

export interface InProcessTap extends Tap {
  /**
   * Accepts events; resolves when their outcome is safe.
   * @throws PusherError BATCH_INVALID if source or numbering do not follow the tap protocol; OUTBOX_FULL,
   * OUTBOX_UNUSABLE, OUTBOX_CLOSED: nothing was kept, try again later
   */
  receive(batch: GivenBatch): Promise<Receipt>;
}

const head = z.object(
  {
    source: sourceName,
    numbering: z.object({ epoch: epochName, first: firstSeq }).optional(),
    // Each is validated separately, later.
    events: z.custom<readonly unknown[]>(Array.isArray, 'should be a list of events'),
  },
  'should be an object',
);

/**
 * Validates an event. In process it may contain values that JSON and dead letters can't: a BigInt, a getter that
 * throws.
 */
function parseGiven(raw: unknown): NewEvent | MalformedEvent {
  try {
    const event = parseEvent(raw);
    if (isMalformed(event)) JSON.stringify(event.raw);
    return event;
  } catch {
    return { problem: 'should be data that JSON can hold', raw: '(left out: JSON can not hold it)' };
  }
}

export function inProcessTap(): InProcessTap {
  let receive: Receive | undefined;
  /** Batches in progress. */
  const underWay = new Set<Promise<Receipt>>();
  return {
    name: 'in-process',
    async start(given) {
      receive = given;
    },
    async stop() {
      receive = undefined;
      await Promise.allSettled(underWay);
    },
    async receive(given) {
      const checked = head.safeParse(given);
      if (!checked.success) throw new PusherError('BATCH_INVALID', problemOf(checked.error));
      const { events, ...batch } = given;
      if (!receive) throw new PusherError('OUTBOX_CLOSED', 'the pusher is not running');
      const taking = receive({ tap: 'in-process', ...batch, events: events.map(parseGiven) });
      underWay.add(taking);
      try {
        return await taking;
      } finally {
        underWay.delete(taking);
      }
    },
    state: () => ({ at: receive && 'in process', problem: receive ? undefined : { reason: 'is not running' } }),
  };
}
