/** The names in a dead letter, as far as its content has any. Pure. */
import { bareJid } from '../notification/kind.ts';
import type { DeadContent, Names } from './dead-letters.ts';

/** Longer texts are not names. */
const MOST_CHARACTERS = 512;

/** @returns the names in the content; none if it does not resemble an event */
export function namesOf(content: DeadContent): Names {
  return content.kind === 'notification' ? ofNotification(content.notification) : ofEvent(content.event);
}

function ofEvent(event: unknown): Names {
  const { host, kind, type, jid, from, to } = (typeof event === 'object' && event ? event : {}) as Record<
    string,
    unknown
  >;
  const user = bare(kind === 'presence' ? jid : from);
  return {
    host: named(host)?.toLowerCase() ?? domainOf(user),
    user,
    room: type === 'groupchat' ? bare(to) : undefined,
  };
}

/** A plugin or template may have changed the names: then only the order key is known. */
function ofNotification({ orderKey, message }: { readonly orderKey: string; readonly message: string }): Names {
  const { user_id, from_user_id, to_user_id } = objectOf(message);
  const key = named(orderKey);
  if (user_id === undefined && key !== undefined && to_user_id === key) {
    const user = named(from_user_id);
    return { host: domainOf(user), user, room: key };
  }
  return { host: domainOf(key), user: key, room: undefined };
}

function objectOf(json: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {}; // A template may produce a body that is not JSON.
  }
}

const named = (value: unknown): string | undefined =>
  typeof value === 'string' && value !== '' && value.length <= MOST_CHARACTERS ? value : undefined;

const bare = (value: unknown): string | undefined => {
  const name = named(value);
  return name === undefined ? undefined : bareJid(name);
};

const domainOf = (jid: string | undefined): string | undefined => jid?.split('@')[1];
