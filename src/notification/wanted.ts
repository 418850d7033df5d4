/**
 * What somebody looks for when they ask what became of an event: a user, a room, the event's id, the stanza's, or the
 * sink's. Pure.
 */
import { domainToASCII, domainToUnicode } from 'node:url';
import { bareJid } from './kind.ts';

/** What an event, or a notification of it, can be found by. */
export interface Named {
  readonly eventId: string;
  /** As {@link import('./notification.ts').Notification.names}. */
  readonly names: readonly string[];
  /** The sink's id. */
  readonly messageId?: string | undefined;
}

export interface Wanted {
  /** As it was asked for, without the spaces around it. */
  readonly text: string;
  /** Whether a text in lower case, such as lines of JSON, may hold what is wanted: a quick look before it is parsed. */
  mayBeIn(lowerCase: string): boolean;
  /** Whether this is it. */
  matches(named: Named): boolean;
}

/**
 * Case counts in an event's id and in a resource only. A domain is one in either form of an internationalized name. A JID
 * without resource stands for all sessions of the user, or everybody in the room.
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
