/** Makes dead letters of unreadable notifications, so that they do not block others. */
import type { NewDeadLetter } from '../dead-letters.ts';

/** The log line about them. */
export const UNREADABLE = 'damaged notifications in the outbox became dead letters';

/** The dead letter of an unreadable notification. */
export const unreadableLetter = (topic: string | undefined, eventId: string, raw: string): NewDeadLetter => ({
  eventId,
  topic,
  reason: 'unreadable',
  detail: 'this notification in the outbox is damaged: its file was changed, or the disk fails',
  attempts: 0,
  content: { kind: 'raw', event: raw },
});
