/** A consumer of one topic's backlog, for tests of outboxes. */
import { setImmediate as turn } from 'node:timers/promises';
import type { Backlog, Outbox, Stored } from '../../src/outbox/outbox.ts';
import { until } from './process.ts';

export interface Consumer extends AsyncDisposable {
  readonly backlog: Backlog;
  /** Entries received but not yet returned, in order. */
  readonly held: readonly Stored[];
  /** Waits for this many entries and returns them. */
  next(count: number): Promise<Stored[]>;
  /** Waits briefly and returns all entries received so far. */
  rest(): Promise<Stored[]>;
  settle(...notifications: readonly Stored[]): Promise<void>;
  close(): Promise<void>;
}

const PLENTY = 1_000_000;

/** @param credit the initial credit */
export function consume(outbox: Outbox, topic: string, credit = PLENTY): Consumer {
  const held: Stored[] = [];
  const backlog = outbox.backlog(topic, (notifications) => void held.push(...notifications));
  if (credit > 0) backlog.request(credit);
  return {
    backlog,
    held,
    async next(count) {
      await until(`${count} notifications of ${topic}`, () => held.length >= count);
      return held.splice(0, count);
    },
    async rest() {
      await turns();
      return held.splice(0);
    },
    settle: (...notifications) => backlog.settle(notifications.map((notification) => ({ notification }))),
    close: () => backlog.close(),
    [Symbol.asyncDispose]: () => backlog.close(),
  };
}

/** Lets pending callbacks run. */
export async function turns(count = 50): Promise<void> {
  for (let n = 0; n < count; n++) await turn();
}
