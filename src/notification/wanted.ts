/** A search for an event's outcome: by user, room, event id, stanza id or the sink's id. Pure. */
import { domainToASCII, domainToUnicode } from 'node:url';
import { bareJid } from './kind.ts';

/** The search keys of an event or a notification. */
export interface Named {
  readonly eventId: string;
  /** See {@link import('./notification.ts').Notification.names}. */
  readonly names: readonly string[];
  /** The sink's id. */
  readonly messageId?: string | undefined;
}

export interface Wanted {
  /** The search text, trimmed. */
  readonly text: string;
  /** Whether a text in lower case, such as lines of JSON, may contain it: a quick test before parsing. */
  mayBeIn(lowerCase: string): boolean;
  /** Whether an event matches. */
  matches(named: Named): boolean;
}

/**
 * Case matters only in an event's id and in a resource. Both forms of an internationalized domain match. A JID without
 * resource matches all sessions of the user, or everybody in the room.
 */
export function wantedOf(asked: string): Wanted {
  const text = asked.trim();
  const lower = text.toLowerCase();
  const slash = text.indexOf('/');
  const resource = slash < 0 ? undefined : text.slice(slash + 1);
  const forms = formsOf(text);
  const needles = new Set([lower, ...[...forms].map((form) => (slash < 0 ? form : `${form}${lower.slice(slash)}`))]);
  const escaped = [...needles].map((needle) => JSON.stringify(needle).slice(1, -1));
  const isAddressed = (name: string): boolean => {
    if (!forms.has(bareJid(name).normalize('NFC'))) return false;
    return resource === undefined || name.slice(name.indexOf('/') + 1 || name.length) === resource;
  };
  return {
    text,
    mayBeIn: (lowerCase) => escaped.some((needle) => lowerCase.includes(needle)),
    matches({ eventId, names, messageId }) {
      if (text === '') return false;
      if (eventId === text || messageId?.toLowerCase() === lower) return true;
      return names.some((name) => name === text || isAddressed(name));
    },
  };
}

/** The bare JID of a text, in lower case, with its domain in Unicode and in ASCII. */
function formsOf(text: string): Set<string> {
  const bare = bareJid(text).normalize('NFC');
  const at = bare.indexOf('@');
  const domain = bare.slice(at + 1);
  const others = [domainToASCII(domain), domainToUnicode(domain)].filter((form) => form !== '');
  return new Set([bare, ...others.map((form) => `${bare.slice(0, at + 1)}${form}`)]);
}
