/** Notifications and commits for tests of outboxes. */

import type { Notification } from '../../src/notification/notification.ts';
import type { NewDeadLetter } from '../../src/outbox/dead-letters.ts';
import type { Admission, Outbox } from '../../src/outbox/outbox.ts';
import { until } from './process.ts';

export const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:a';
export const OTHER = 'arn:aws:sns:eu-west-1:123456789012:b';

/** A notification with as many bytes as it states. */
export const notification = (eventId: string, fields: Partial<Notification> = {}): Notification => ({
  eventId,
  topic: TOPIC,
  orderKey: 'alice@localhost',
  at: 1_763_820_191_120,
  message: `{"event":"${eventId}"}`,
  attributes: [],
  bytes: 100,
  ...fields,
});

/** Notifications with the ids `e<from>` and so on. */
export const numbered = (from: number, count: number, fields: Partial<Notification> = {}): Notification[] =>
  Array.from({ length: count }, (_, index) => notification(`e${from + index}`, fields));

export const admission = (...notifications: Notification[]): Admission => ({ notifications, deadLetters: [] });

export const letter = (eventId: string, fields: Partial<NewDeadLetter> = {}): NewDeadLetter => ({
  eventId,
  topic: undefined,
  reason: 'malformed',
  detail: 'at: should not be negative',
  attempts: 0,
  content: { kind: 'raw', event: { kind: 'presence' } },
  ...fields,
});

export const ids = (rows: readonly Pick<Notification, 'eventId'>[]): string[] => rows.map(({ eventId }) => eventId);

export const depthOf = (outbox: Outbox, topic = TOPIC): number =>
  outbox.health().topics.find((each) => each.topic === topic)?.depth ?? 0;

/** Commits a batch of a source with numbered events. */
export async function commitAs(
  outbox: Outbox,
  source: string,
  epoch: string,
  last: number,
  what: Admission,
  missing = 0,
) {
  const cursor = await outbox.source(source, epoch);
  try {
    await cursor.commit(what, { last, missing });
  } finally {
    cursor.release();
  }
}

/** The last number heard of a source's epoch. */
export async function lastOf(outbox: Outbox, source: string, epoch: string): Promise<number | undefined> {
  const cursor = await outbox.source(source, epoch);
  const { last } = cursor;
  cursor.release();
  return last;
}

/** Commits, again and again until it succeeds; answers how it was refused on the way. */
export async function insist(outbox: Outbox, ...events: Parameters<typeof admission>): Promise<string[]> {
  const refusals: string[] = [];
  await until('it to be taken', () =>
    outbox.commit(admission(...events)).then(
      () => true,
      (error: Error) => {
        refusals.push(error.message);
        return false;
      },
    ),
  );
  return refusals;
}
