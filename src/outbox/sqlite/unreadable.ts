/** Makes dead letters of notifications that can't be read any more, so that they don't block others. */
import type { NewDeadLetter } from '../dead-letters.ts';

/** What the log says of them. */
export const UNREADABLE = 'notifications in the outbox are damaged: they became dead letters';

/** What is kept of a notification that can't be read any more. */
export const unreadableLetter = (topic: string | undefined, eventId: string, raw: string): NewDeadLetter => ({
  eventId,
  topic,
  reason: 'unreadable',
  detail: 'this notification in the outbox is damaged: its file was changed, or the disk fails',
  attempts: 0,
  content: { kind: 'raw', event: raw },
});
