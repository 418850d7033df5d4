/**
 * The plugin: user code that names users, adds message attributes and filters events. This file defines its contract,
 * checks modules against it, and converts results for SNS.
 */
import type { JID } from '@xmpp/jid';
import { distance } from 'fastest-levenshtein';
import type { Element } from 'ltx';
import type { XmppEvent } from '../event.ts';
import { type EventId, parseEventId } from '../event-id.ts';
import type { Log } from '../log.ts';
import { attributeProblem, type MessageAttribute } from './lint.ts';

/** An attribute's value from a plugin: SNS's String, Number, Binary and String.Array. */
export type AttributeValue = string | number | Uint8Array | readonly string[];
/** Message attributes by name; undefined ones are omitted. */
export type Attributes = Readonly<Record<string, AttributeValue | undefined>>;

/** The arguments of a plugin's start. */
export interface PluginContext {
  /** The daemon's or the host program's log; no message texts and no secrets. */
  readonly log: Log;
  /** The section `plugin_options`, or a host program's options; frozen. */
  readonly options: Readonly<Record<string, unknown>>;
}

/** The event for a plugin: frozen, with the parts of its id if its source numbers events. */
export type PluginEvent = Readonly<XmppEvent & Partial<EventId>>;

/**
 * The exports of a `plugin_module`; all are optional, and every function may be async. If one throws, takes more than 5
 * s or returns what SNS would refuse, that event becomes a dead letter with the reason. MongooseIM's contract is the
 * same, in Erlang: the behaviour `mod_event_pusher_sns` with `user_guid/1`, `message_attributes/3` and
 * `message_attributes/5`.
 */
export interface SnsPlugin {
  /** The name of a user or a room in notifications. Default: the bare JID in lower case. */
  userGuid?(jid: JID, event: PluginEvent): string | Promise<string>;
  /** Attributes of a presence notification; `online` is its value. Default: none. */
  presenceAttributes?(
    topicArn: string,
    jid: JID,
    online: boolean,
    event: PluginEvent,
  ): Attributes | Promise<Attributes>;
  /**
   * Attributes of a message notification. `stanza` is the whole stanza, or a minimal one if the server sent none; it is
   * parsed at the first access. Default: none.
   */
  messageAttributes?(
    topicArn: string,
    from: JID,
    to: JID,
    type: 'pm' | 'muc',
    stanza: Element,
    event: PluginEvent,
  ): Attributes | Promise<Attributes>;
  /** Whether an event is published. `false`: it is only counted. Default: true. */
  filter?(event: PluginEvent): boolean | Promise<boolean>;
  /** Called once before all others; the daemon waits up to 10 s. If it throws, the start or the reload fails. */
  start?(context: PluginContext): void | Promise<void>;
  /** Called once, after the last call of the other functions, at a reload or at the end; the daemon waits up to 5 s. */
  stop?(): void | Promise<void>;
}

/** Converts an event to what plugins see. */
export const toPluginEvent = (event: XmppEvent): PluginEvent => Object.freeze({ ...event, ...parseEventId(event.id) });

/** MongooseIM's name for "no plugin". */
export const DEFAULT_PLUGIN = 'mod_event_pusher_sns_defaults';
const ASKED = ['userGuid', 'presenceAttributes', 'messageAttributes', 'filter'] as const;
const FUNCTIONS: readonly string[] = [...ASKED, 'start', 'stop'];
/** Exports that Node.js and compilers add to a module. */
const NOT_EXPORTS = new Set(['default', '__esModule', 'module.exports']);

/**
 * The plugin that a module exports: its functions by name, or one object as the default export.
 * @throws Error that names an export that is unknown, missing or not a function
 */
export function pluginOf(exports: Readonly<Record<string, unknown>>): SnsPlugin {
  const object = isRecord(exports.default) ? exports.default : undefined;
  const names = Object.keys(exports).filter((name) => !NOT_EXPORTS.has(name));
  // CommonJS exports appear both by name and in one object.
  const beside = names.find((name) => object && exports[name] !== object[name]);
  if (object && beside !== undefined)
    throw new Error(`exports ${beside} in addition to a default object: move it into that object`);
  if (!object) for (const name of names) refuseUnknown(name);
  return boundPlugin(object ?? exports);
}

/**
 * A plugin's functions, bound to their object.
 * @throws Error that names an export that is missing, not a function, or nearly a known name
 */
export function boundPlugin(holder: object): SnsPlugin {
  for (const name of methodsOf(holder)) if (isNear(name)) refuseUnknown(name);
  const plugin: Record<string, unknown> = {};
  for (const key of FUNCTIONS) {
    const value = (holder as Record<string, unknown>)[key];
    if (value === undefined) continue;
    if (typeof value !== 'function')
      throw new Error(`exports ${key}, which should be a function and is a ${typeof value}`);
    plugin[key] = value.bind(holder);
  }
  if (!ASKED.some((name) => plugin[name])) throw new Error(`exports none of ${ASKED.join(', ')}`);
  return plugin;
}

/** The functions in an object, and in its classes. */
function methodsOf(holder: object): string[] {
  const names: string[] = [];
  for (let each = holder; each && each !== Object.prototype; each = Object.getPrototypeOf(each))
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(each)))
      if (typeof value === 'function') names.push(name);
  return names;
}

/** Whether a name probably means one of ours: an object may have helpers, such as `state`. */
function isNear(name: string): boolean {
  if (FUNCTIONS.includes(name)) return false;
  return ASKED.some((known) => distance(plain(name), plain(known)) <= (known.length > 6 ? 3 : 1));
}

function refuseUnknown(name: string): void {
  if (!FUNCTIONS.includes(name))
    throw new Error(`exports ${name}, which is not a plugin function; did you mean ${nearest(name)}?`);
}

/** A name in comparable form: MongooseIM's are in snake case. */
const plain = (name: string): string => name.replaceAll('_', '').toLowerCase();

const nearest = (name: string): string =>
  FUNCTIONS.toSorted((a, b) => distance(plain(name), plain(a)) - distance(plain(name), plain(b)))[0] ?? '';

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

/** How long an async plugin function may take, in milliseconds. */
const PLUGIN_TIMEOUT_MS = 5_000;

/** Waits for a plugin function's result, at most 5 s. */
export const withinTime = <T>(pending: PromiseLike<T>): Promise<T> =>
  within(PLUGIN_TIMEOUT_MS, 'did not answer', pending);

/** Waits up to `ms` milliseconds. @throws Error that says what did not happen in time */
export async function within<T>(ms: number, what: string, pending: PromiseLike<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const expired = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} within ${ms / 1_000} s`)), ms);
  });
  try {
    return await Promise.race([pending, expired]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * A plugin's attributes in SNS's form.
 * @throws Error that names the attribute and its mistake
 */
export function toMessageAttributes(attributes: unknown): MessageAttribute[] {
  // A Map, a Set or a Uint8Array has no attributes as properties.
  if (!isRecord(attributes) || Symbol.iterator in attributes)
    throw new Error(`attributes should be an object, not ${nameOf(attributes)}`);
  const given = Object.entries(attributes).filter(([, value]) => value !== undefined);
  return given.map(([name, value]) => {
    const attribute = toMessageAttribute(name, value);
    const problem = attributeProblem(attribute);
    if (problem) throw new Error(`attribute ${JSON.stringify(name)}: ${problem}`);
    return attribute;
  });
}

function nameOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  return typeof value === 'object' ? `a ${value.constructor.name}` : typeof value;
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
