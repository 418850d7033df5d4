/**
 * An example plugin. Copy it beside your configuration file, keep what you need, and name it there:
 *
 *     plugin_module = "./plugin.ts"
 *
 * Every export is optional, and each may be async. TypeScript runs as it is, without a build, as long as its types can
 * simply be left out (no enums, namespaces or parameter properties).
 */
import type { SnsPlugin } from 'xmpp-event-pusher';

/** The domain whose users consumers know by their plain user name. */
const HOME = 'example.org';

/** Whose comings and goings are nobody's business. */
const ROBOTS = new Set(['monitor', 'backup']);

/**
 * How a user, or a room, is named in `user_id`, `from_user_id` and `to_user_id`. A JID has `local`, `domain` and
 * `resource`; local part and domain are in lower case. The bare JID would be the default. A message may go to a domain by
 * itself, which has no local part, and a name must not be empty.
 */
export const userGuid: SnsPlugin['userGuid'] = (jid) =>
  jid.domain === HOME && jid.local !== '' ? jid.local : jid.bare().toString();

/**
 * Attributes of a presence notification. Subscriptions filter by attributes without a look at the message: with the
 * filter policy {"online": ["true"]} a queue gets only those who come.
 */
export const presenceAttributes: SnsPlugin['presenceAttributes'] = (_topicArn, jid, online) => ({
  online: String(online),
  resource: jid.resource || 'none',
});

/**
 * Attributes of a message notification. `type` is "pm" or "muc". `stanza` is the whole message as an ltx Element; it is
 * parsed when one of its properties is first used, so a plugin that does not look at it does not pay for it.
 *
 * A string becomes a String, a number a Number, a Uint8Array a Binary, and an array of strings a String.Array. Leave an
 * attribute out rather than giving an empty one: SNS refuses that, and the event would become a dead letter.
 */
export const messageAttributes: SnsPlugin['messageAttributes'] = (_topicArn, _from, to, type, stanza) => {
  const thread = stanza.getChildText('thread');
  // XEP-0066: files that were uploaded for this message.
  const files = stanza.getChildren('x', 'jabber:x:oob').map((file) => file.getChildText('url') ?? '');
  return {
    kind: type,
    domain: to.domain,
    ...(thread && { thread }),
    ...(files.length > 0 && { files: files.length }),
  };
};

/** Whether an event is published. What is filtered is counted, and kept nowhere. */
export const filter: SnsPlugin['filter'] = (event) => {
  if (event.kind === 'message') return true;
  const [user = ''] = event.jid.split('@');
  return !ROBOTS.has(user);
};
