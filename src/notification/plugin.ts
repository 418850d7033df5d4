/**
 * The plugin: user code that names users, adds message attributes and filters events. This file is its contract, loads
 * it, and turns what it returns into what SNS takes.
 */
import { statSync } from 'node:fs';
import { registerHooks } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import type { JID } from '@xmpp/jid';
import type { Element } from 'ltx';
import { messageOf, PusherError } from '../errors.ts';
import type { XmppEvent } from '../event.ts';
import { type EventId, parseEventId } from '../event-id.ts';
import { attributeProblem, type MessageAttribute } from './lint.ts';

/** What a plugin may return for an attribute: String, Number, Binary and String.Array in SNS's terms. */
export type AttributeValue = string | number | Uint8Array | readonly string[];
export type Attributes = Readonly<Record<string, AttributeValue>>;

/** The event as a plugin sees it: frozen, with the parts of its id where its source numbers its events. */
export type PluginEvent = Readonly<XmppEvent & Partial<EventId>>;

/**
 * What a `plugin_module` may export; all of it is optional, and every function may be async. One that throws, takes more
 * than 5 s or returns what SNS would refuse turns that one event into a dead letter with the reason.
 * MongooseIM's contract is the same, in Erlang: the behaviour `mod_event_pusher_sns` with `user_guid/1`,
 * `message_attributes/3` and `message_attributes/5`.
 */
export interface SnsPlugin {
  /** How a user, or a room, is named in notifications. Default: the bare JID in lower case. */
  userGuid?(jid: JID, event: PluginEvent): string | Promise<string>;
  /** Attributes of a presence notification; `online` is what it says. Default: none. */
  presenceAttributes?(
    topicArn: string,
    jid: JID,
    online: boolean,
    event: PluginEvent,
  ): Attributes | Promise<Attributes>;
  /**
   * Attributes of a message notification. `stanza` is the whole stanza, or a minimal one where the server handed none
   * over; it is parsed when one of its properties is first used. Default: none.
   */
  messageAttributes?(
    topicArn: string,
    from: JID,
    to: JID,
    type: 'pm' | 'muc',
    stanza: Element,
    event: PluginEvent,
  ): Attributes | Promise<Attributes>;
  /** Whether an event is published. `false`: it is not, and it is counted. Default: true. */
  filter?(event: PluginEvent): boolean | Promise<boolean>;
}

/** Makes an event what plugins see. */
export const toPluginEvent = (event: XmppEvent): PluginEvent => Object.freeze({ ...event, ...parseEventId(event.id) });

/** MongooseIM's name for "no plugin". */
export const DEFAULT_PLUGIN = 'mod_event_pusher_sns_defaults';
const FUNCTIONS = ['userGuid', 'presenceAttributes', 'messageAttributes', 'filter'] as const;

/**
 * Loads a plugin.
 * @param name `plugin_module`: a path or a package, resolved from the configuration file, or {@link DEFAULT_PLUGIN}
 * @param configFile absolute path of the configuration file
 * @throws PusherError PLUGIN_UNUSABLE when it can't be found or loaded, or exports something under a plugin's name that is no function
 */
export async function loadPlugin(name: string, configFile: string): Promise<SnsPlugin> {
  if (name === DEFAULT_PLUGIN) return {};
  const fault = (why: string, cause?: unknown) =>
    new PusherError('PLUGIN_UNUSABLE', `plugin_module "${name}" of ${configFile}: ${why}`, cause);
  let exports: Record<string, unknown>;
  try {
    exports = await importFrom(configFile, name);
  } catch (error) {
    throw fault(`can't be loaded: ${messageOf(error)}`, error);
  }
  // A plugin written as one object is exported as default; functions bound to it keep their `this`.
  const holder = isRecord(exports.default) ? exports.default : exports;
  const plugin: Record<string, unknown> = {};
  for (const key of FUNCTIONS) {
    const value = holder[key];
    if (value === undefined) continue;
    if (typeof value !== 'function') throw fault(`exports ${key}, which should be a function and is a ${typeof value}`);
    plugin[key] = value.bind(holder);
  }
  if (Object.keys(plugin).length === 0) throw fault(`exports none of ${FUNCTIONS.join(', ')}`);
  return plugin as SnsPlugin;
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

/** Imports a path or a package as a module beside the configuration file would, which `import` by itself can't. */
async function importFrom(configFile: string, name: string): Promise<Record<string, unknown>> {
  const isPath = /^[./]/.test(name) || /\.[cm]?[jt]s$/.test(name);
  if (isPath) {
    const url = pathToFileURL(path.resolve(path.dirname(configFile), name));
    // Node keeps a module for ever under its URL; so a file that was changed gets another one, for a reload to see it.
    url.search = String(statSync(url, { throwIfNoEntry: false })?.mtimeMs ?? '');
    return import(url.href);
  }
  const parentURL = pathToFileURL(configFile).href;
  const hooks = registerHooks({
    resolve: (specifier, context, next) => next(specifier, specifier === name ? { ...context, parentURL } : context),
  });
  try {
    return await import(name);
  } finally {
    hooks.deregister();
  }
}

/** How long an async plugin function may take, in milliseconds. */
const PLUGIN_TIMEOUT_MS = 5_000;

/** Waits for what a plugin function returned, for 5 s at most. */
export async function withinTime<T>(pending: PromiseLike<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const expired = new Promise<never>((_, reject) => {
    const message = `did not answer within ${PLUGIN_TIMEOUT_MS / 1_000} s`;
    timer = setTimeout(() => reject(new Error(message)), PLUGIN_TIMEOUT_MS);
  });
  try {
    return await Promise.race([pending, expired]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * A plugin's attributes in the form SNS takes.
 * @throws Error that names the attribute and what is wrong with it
 */
export function toMessageAttributes(attributes: unknown): MessageAttribute[] {
  if (!isRecord(attributes) || Array.isArray(attributes))
    throw new Error(`attributes should be an object, not ${nameOf(attributes)}`);
  return Object.entries(attributes).map(([name, value]) => {
    const attribute = toMessageAttribute(name, value);
    const problem = attributeProblem(attribute);
    if (problem) throw new Error(`attribute ${JSON.stringify(name)}: ${problem}`);
    return attribute;
  });
}

function nameOf(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'an array' : typeof value;
}

function toMessageAttribute(name: string, value: unknown): MessageAttribute {
  if (typeof value === 'string') return { name, type: 'String', value };
  if (typeof value === 'number' && Number.isFinite(value)) return { name, type: 'Number', value: String(value) };
  if (value instanceof Uint8Array) return { name, type: 'Binary', value: Buffer.from(value).toString('base64') };
  if (Array.isArray(value) && value.every((item) => typeof item === 'string'))
    return { name, type: 'String.Array', value: JSON.stringify(value) };
  const is =
    typeof value === 'number' ? String(value) : Array.isArray(value) ? 'an array of other things' : typeof value;
  throw new Error(
    `attribute ${JSON.stringify(name)}: should be a string, a finite number, a Uint8Array or an array of strings, and is ${is}`,
  );
}
