/**
 * Translates an event to a notification, or a reason why there is none. Without I/O: only the event, the options of its
 * virtual host and the plugin decide.
 *
 * Topic, JSON body and default GUIDs are those of MongooseIM's `sns` backend
 * (https://esl.github.io/MongooseDocs/latest/modules/mod_event_pusher_sns/).
 */
import { type JID, parse as parseJid } from '@xmpp/jid';
import { messageOf } from '../errors.ts';
import type { MessageEvent, PresenceEvent, XmppEvent } from '../event.ts';
import { forbiddenCharacter } from '../xml.ts';
import type { Additions } from './additions.ts';
import { bareJid, type EventKind, kindOf } from './kind.ts';
import { attributeBytes, type MessageAttribute, sizeProblem } from './lint.ts';
import { type PluginEvent, type SnsPlugin, toMessageAttributes, toPluginEvent, withinTime } from './plugin.ts';
import { lazyStanza } from './stanza.ts';

/** A notification for SNS, with its order key. */
export interface Notification {
  readonly eventId: string;
  readonly topic: string;
  /** Notifications of one topic with the same key are published in the order of their events: a bare JID. */
  readonly orderKey: string;
  /** When the event happened, in milliseconds since the Unix epoch. */
  readonly at: number;
  /** The published JSON string. */
  readonly message: string;
  readonly attributes: readonly MessageAttribute[];
  /** Message and attributes as SNS counts them, in bytes. */
  readonly bytes: number;
  /**
   * Search keys in addition to id and order key, as in the event: the session of a presence; a message's sender,
   * addressee and stanza id, if any. Not published.
   */
  readonly names?: readonly string[] | undefined;
  /** Other parameters of the request, from the configuration; absent if it sets none. */
  readonly parameters?: PublishParameters | undefined;
}

/** Parameters of the request by their SNS names; they replace the order key and the event's id. */
interface PublishParameters {
  readonly Subject?: string | undefined;
  readonly MessageGroupId?: string | undefined;
  readonly MessageDeduplicationId?: string | undefined;
}

/** Why a valid event is not published. */
export type SkipReason = 'no-topic' | 'host-has-no-sns' | 'not-first-session' | 'sessions-left' | 'filtered';

export type Translation =
  | { readonly kind: 'publish'; readonly notification: Notification }
  | { readonly kind: 'skip'; readonly reason: SkipReason }
  | { readonly kind: 'dead'; readonly reason: DeadReason; readonly detail: string };

/** Why an event became a dead letter before it was sent to SNS. */
type DeadReason = 'plugin' | 'too-large';

/** A topic, or a function that chooses one for an event; undefined for none. */
export type TopicOf = string | ((event: XmppEvent) => string | undefined);

/** How the events of one virtual host are published. */
export interface Route {
  /** Topic ARN by kind; a kind without one is not published. */
  readonly topics: { readonly [Kind in EventKind]?: TopicOf };
  readonly plugin: SnsPlugin;
  readonly presence: 'user' | 'session';
  readonly additions: Additions;
  /** A topic's size limit for one message, in bytes. */
  readonly maxBytes: (topic: string) => number;
}

const skip = (reason: SkipReason): Translation => ({ kind: 'skip', reason });
const dead = (reason: DeadReason, detail: string): Translation => ({ kind: 'dead', reason, detail });

/**
 * Translates one event. Returns at once unless the virtual host has a plugin, which may be async.
 * @param route how that virtual host publishes; undefined: not at all
 */
export function translate(event: XmppEvent, route: Route | undefined): Translation | Promise<Translation> {
  if (!route) return skip('host-has-no-sns');
  const topicOf = route.topics[kindOf(event)];
  const topic = typeof topicOf === 'function' ? topicOf(event) : topicOf;
  if (topic === undefined) return skip('no-topic');
  if (event.kind === 'presence' && route.presence === 'user') {
    const other = otherSessions(event);
    if (other) return skip(other);
  }
  if (hasFunctions(route.plugin)) return translateWithPlugin(event, route, topic);
  return compose(event, route, topic, bareJid, []);
}

/**
 * Whether a session's change leaves the user's status unchanged, because the user has other sessions. If the server
 * does not know, the status counts as changed: an extra notification does less harm than a missing one.
 */
function otherSessions({ present, sessions }: PresenceEvent): SkipReason | undefined {
  if (sessions === undefined) return undefined;
  if (present) return sessions > 1 ? 'not-first-session' : undefined;
  return sessions > 0 ? 'sessions-left' : undefined;
}

const hasFunctions = (plugin: SnsPlugin): boolean =>
  Boolean(plugin.userGuid ?? plugin.presenceAttributes ?? plugin.messageAttributes ?? plugin.filter);

async function translateWithPlugin(event: XmppEvent, route: Route, topic: string): Promise<Translation> {
  try {
    const seen = toPluginEvent(event);
    if (route.plugin.filter && !(await passes(route.plugin, seen))) return skip('filtered');
    const guids = new Map<string, string>();
    for (const jid of event.kind === 'presence' ? [event.jid] : [event.to, event.from])
      guids.set(jid, await guidOf(jid, route.plugin, seen));
    const given = await pluginAttributes(event, route.plugin, topic, seen);
    const attributes = checkedAttributes(event.kind === 'presence' ? 'presenceAttributes' : 'messageAttributes', given);
    return compose(event, route, topic, (jid) => guids.get(jid) as string, attributes);
  } catch (error) {
    return dead('plugin', messageOf(error));
  }
}

/** A filter must return a boolean: one that forgets to return would publish what it should withhold. */
async function passes(plugin: SnsPlugin, seen: PluginEvent): Promise<boolean> {
  const answer = await call(plugin, 'filter', seen);
  if (typeof answer === 'boolean') return answer;
  throw new Error(`filter should return true or false, and returned ${answer === null ? 'null' : typeof answer}`);
}

function checkedAttributes(name: string, given: unknown): MessageAttribute[] {
  try {
    return toMessageAttributes(given ?? {});
  } catch (error) {
    throw new Error(`${name}: ${messageOf(error)}`, { cause: error });
  }
}

async function guidOf(jid: string, plugin: SnsPlugin, seen: PluginEvent): Promise<string> {
  if (!plugin.userGuid) return bareJid(jid);
  const guid: unknown = await call(plugin, 'userGuid', toJid(jid), seen);
  if (typeof guid !== 'string' || guid === '')
    throw new Error(`userGuid should return a string that is not empty, and returned ${JSON.stringify(guid)}`);
  // Checked in its JSON form, which escapes most of these characters.
  const forbidden = forbiddenCharacter(JSON.stringify(guid));
  if (forbidden) throw new Error(`userGuid returned a string that holds ${forbidden}, which SNS does not allow`);
  return guid;
}

function pluginAttributes(event: XmppEvent, plugin: SnsPlugin, topic: string, seen: PluginEvent): unknown {
  if (event.kind === 'presence')
    return call(plugin, 'presenceAttributes', topic, toJid(event.jid), event.present, seen);
  const [from, to, type] = [toJid(event.from), toJid(event.to), event.type === 'chat' ? 'pm' : 'muc'] as const;
  return call(plugin, 'messageAttributes', topic, from, to, type, lazyStanza(event), seen);
}

const toJid = (jid: string): JID => parseJid(jid);

/** Calls a plugin function if there is one; every error names the function. */
async function call<Name extends keyof SnsPlugin>(
  plugin: SnsPlugin,
  name: Name,
  ...parameters: Parameters<Required<SnsPlugin>[Name]>
): Promise<unknown> {
  const run = plugin[name] as ((...parameters: unknown[]) => unknown) | undefined;
  if (!run) return undefined;
  try {
    const answer = run(...parameters);
    return isThenable(answer) ? await withinTime(answer) : answer;
  } catch (error) {
    throw new Error(`${name}: ${messageOf(error)}`, { cause: error });
  }
}

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  typeof (value as PromiseLike<unknown> | undefined)?.then === 'function';

function compose(
  event: XmppEvent,
  route: Route,
  topic: string,
  guid: (jid: string) => string,
  fromPlugin: readonly MessageAttribute[],
): Translation {
  const { additions } = route;
  const body = event.kind === 'presence' ? presenceJson(event, guid) : messageJson(event, guid);
  const message = additions.members ? `${body.slice(0, -1)}${additions.members(event)}}` : body;
  const attributes = additions.attributes ? merged(fromPlugin, additions.attributes(event)) : fromPlugin;
  const messageBytes = Buffer.byteLength(message);
  let attributesBytes = 0;
  for (const attribute of attributes) attributesBytes += attributeBytes(attribute);
  const problem = sizeProblem(messageBytes, attributesBytes, route.maxBytes(topic));
  if (problem) return dead('too-large', problem);
  const notification: Notification = {
    eventId: event.id,
    topic,
    orderKey: orderKeyOf(event),
    at: event.at,
    message,
    attributes,
    bytes: messageBytes + attributesBytes,
    names: namesOf(event),
  };
  const parameters = parametersOf(event, groupedByName(route, topic, guid));
  return { kind: 'publish', notification: parameters ? { ...notification, parameters } : notification };
}

/** The search keys of an event: see {@link Notification.names}. */
export function namesOf(event: XmppEvent): readonly string[] {
  if (event.kind === 'presence') return [event.jid];
  const { from, to, stanza_id: stanzaId } = event;
  return stanzaId === undefined ? [from, to] : [from, to, stanzaId];
}

const orderKeyOf = (event: XmppEvent): string => bareJid(orderJidOf(event));

/** The order key: the user, the sender of a private message, or the room of a group message. */
function orderJidOf(event: XmppEvent): string {
  if (event.kind === 'presence') return event.jid;
  return event.type === 'chat' ? event.from : event.to;
}

const presenceJson = (event: PresenceEvent, guid: (jid: string) => string): string =>
  JSON.stringify({ user_id: guid(event.jid), present: event.present });

const messageJson = (event: MessageEvent, guid: (jid: string) => string): string =>
  JSON.stringify({ to_user_id: guid(event.to), message: event.body, from_user_id: guid(event.from) });

/** Merges the plugin's attributes and the configured ones; the plugin's win. */
function merged(
  fromPlugin: readonly MessageAttribute[],
  configured: readonly MessageAttribute[],
): readonly MessageAttribute[] {
  if (fromPlugin.length === 0) return configured;
  const names = new Set(fromPlugin.map(({ name }) => name));
  return [...fromPlugin, ...configured.filter(({ name }) => !names.has(name))];
}

/** FIFO groups follow the order key, a JID; hashed if a plugin renames users, so that they do not reveal the JID. */
function groupedByName({ additions, plugin }: Route, topic: string, guid: (jid: string) => string): Additions {
  if (additions.groupId || !plugin.userGuid || !topic.endsWith('.fifo')) return additions;
  return { ...additions, groupId: (event) => guid(orderJidOf(event)) };
}

function parametersOf(
  event: XmppEvent,
  { subject, groupId, deduplicationId }: Additions,
): PublishParameters | undefined {
  if (!subject && !groupId && !deduplicationId) return undefined;
  return {
    Subject: subject?.(event),
    MessageGroupId: groupId?.(event),
    MessageDeduplicationId: deduplicationId?.(event),
  };
}
