/**
 * An example plugin. Copy it beside your configuration file, keep what you need, and name it there:
 *
 *     plugin_module = "./plugin.ts"
 *
 * Every export is optional, and may be async. TypeScript runs as it is, without a build, as long as its types can be
 * stripped (no enums, namespaces or parameter properties).
 */
import type { SnsPlugin } from 'xmpp-event-pusher';

/** Consumers know the users of this domain by their plain user name. */
const HOME = 'example.org';

/** Users whose presence is not published. */
const ROBOTS = new Set(['monitor', 'backup']);

/**
 * The name of a user or room in `user_id`, `from_user_id` and `to_user_id`. Default: the bare JID. A JID has `local`,
 * `domain` and `resource`; local part and domain are in lower case. A message may go to a domain, which has no local
 * part. A name must not be empty.
 */
export const userGuid: SnsPlugin['userGuid'] = (jid) =>
  jid.domain === HOME && jid.local !== '' ? jid.local : jid.bare().toString();

/**
 * Attributes of a presence notification. Subscriptions can filter by attributes: the filter policy {"online": ["true"]}
 * lets only online events into a queue.
 */
export const presenceAttributes: SnsPlugin['presenceAttributes'] = (_topicArn, jid, online) => ({
  online: String(online),
  resource: jid.resource || 'none',
});

/**
 * Attributes of a message notification. `type` is "pm" or "muc". `stanza` is the whole message as an ltx Element; it is
 * parsed at the first access, so unused it costs nothing.
 *
 * A string becomes a String, a number a Number, a Uint8Array a Binary, and an array of strings a String.Array. Omit an
 * attribute instead of leaving it empty: SNS refuses empty ones, and the event would become a dead letter.
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

/** Whether an event is published. Filtered events are counted, not kept. */
export const filter: SnsPlugin['filter'] = (event) => {
  if (event.kind === 'message') return true;
  const [user = ''] = event.jid.split('@');
  return !ROBOTS.has(user);
};
