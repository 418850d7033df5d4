/** Makes dead letters of notifications that the sink refused. */
import type { NewDeadLetter } from './dead-letters.ts';
import type { Settlement, Stored } from './outbox.ts';

export function refusedLetter(notification: Stored, dead: NonNullable<Settlement['dead']>): NewDeadLetter {
  const { seq: _, ...content } = notification;
  const { eventId, topic } = content;
  return { eventId, topic, ...dead, content: { kind: 'notification', notification: content } };
}
