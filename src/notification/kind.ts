/** The kind of an event's notification, and MongooseIM's names for users and rooms. */
import type { XmppEvent } from '../event.ts';

/** The three notifications. */
export type EventKind = 'presence' | 'pm' | 'muc';

/** The kind of an event's notification. */
export function kindOf(event: XmppEvent): EventKind {
  if (event.kind === 'presence') return 'presence';
  return event.type === 'chat' ? 'pm' : 'muc';
}

/** A JID without resource, in lower case: how MongooseIM names users and rooms. */
export function bareJid(jid: string): string {
  const slash = jid.indexOf('/');
  return (slash < 0 ? jid : jid.slice(0, slash)).toLowerCase();
}
