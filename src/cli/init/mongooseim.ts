/** Imports the event pusher's options from an existing `mongooseim.toml`. */
import { existsSync, readFileSync } from 'node:fs';
import { parse as parseToml } from 'smol-toml';
import { shapeOf } from '../../config/load.ts';
import { poolUrl } from '../../config/rabbitmq.ts';
import { snsOptions } from '../../config/sns-options.ts';
import { messageOf, PusherError } from '../../errors.ts';
import { print } from './print.ts';
import type { Contents, Options, Value } from './toml.ts';

/** Its path in MongooseIM's packages. */
const PLACES = ['/etc/mongooseim/mongooseim.toml', '/usr/lib/mongooseim/etc/mongooseim.toml'];

export interface Taken extends Pick<Contents, 'sns' | 'hosts' | 'rabbit'> {
  readonly file: string;
  /** Values of the variables for secrets. */
  readonly secrets: Readonly<Record<string, string>>;
  /** Options that weren't imported, and why. */
  readonly notes: readonly string[];
}

type Table = Readonly<Record<string, unknown>>;

/**
 * Imports the `sns` sections of MongooseIM's `mod_event_pusher`, option by option.
 * @param named the file that the user named
 * @param options.places where it is looked for, for tests
 * @param options.rabbitmq whether to import its rabbit backend's broker and exchanges too
 * @returns undefined if no file is named and none with such a section exists
 * @throws PusherError CONFIG_UNREADABLE where a named file can't be read or has no such section
 */
export function takeFromMongooseim(
  named: string | undefined,
  { rabbitmq, places = PLACES }: { rabbitmq: boolean; places?: readonly string[] },
): Taken | undefined {
  const file = named ?? places.find((each) => existsSync(each));
  const document = file === undefined ? undefined : named === undefined ? readIfPossible(file) : read(file);
  if (file === undefined || document === undefined) return undefined;
  const taken = take(file, document, rabbitmq);
  if (taken.sns || taken.rabbit || taken.hosts.some(({ sns }) => sns)) return taken;
  if (named === undefined) return undefined;
  throw unusable(
    [
      `${file} has no [modules.mod_event_pusher.sns] to copy from: leave --from out, and init asks`,
      ...taken.notes,
    ].join('\n  '),
  );
}

function read(file: string): Table {
  try {
    return parseToml(readFileSync(file, 'utf8'));
  } catch (error) {
    throw unusable(`can't read ${file}: ${messageOf(error).split('\n')[0]}`, error);
  }
}

/** A file that nobody named is no reason to stop. */
function readIfPossible(file: string): Table | undefined {
  try {
    return read(file);
  } catch (error) {
    print(`note      copied nothing from MongooseIM: ${messageOf(error)}`);
    return undefined;
  }
}

function take(file: string, document: Table, rabbitmq: boolean): Taken {
  const secrets: Record<string, string> = {};
  const notes: string[] = [];
  const optionsOf = (parent: Table, where: string): Options | undefined => {
    const pusher = tableAt(tableAt(parent, 'modules'), 'mod_event_pusher');
    const sns = tableAt(pusher, 'sns');
    return sns && knownOptions(sns, `${where}modules.mod_event_pusher.sns`, secrets, notes);
  };
  const sns = optionsOf(document, '');
  const entries = Array.isArray(document.host_config) ? document.host_config.filter(isTable) : [];
  const hosts = entries.flatMap((entry) => {
    if (entry.modules === undefined) return [];
    const { host, host_type: type } = entry;
    const own = optionsOf(entry, `host_config of ${String(host ?? type)}: `);
    if (typeof host === 'string') return [{ host, sns: own }];
    if (own)
      notes.push(
        `host_config of the host type ${String(type)}: events name domains, not host types, so write its section in a [[host_config]] with host = "…" for each of its domains`,
      );
    return [];
  });
  const theirs = tableAt(tableAt(tableAt(document, 'modules'), 'mod_event_pusher'), 'rabbit');
  if (theirs && !rabbitmq)
    notes.push(
      'modules.mod_event_pusher.rabbit: not used; with --rabbitmq the daemon reads from there instead of from the adapter',
    );
  if (!theirs && rabbitmq)
    throw unusable(`${file} has no [modules.mod_event_pusher.rabbit] to read from: leave --rabbitmq out`);
  const rabbit = theirs && rabbitmq ? rabbitOf(document, theirs, secrets) : undefined;
  return { file, sns, hosts, rabbit, secrets, notes };
}

/** The rabbit backend's broker and exchanges: the pool's address, with the password moved to a variable. */
function rabbitOf(document: Table, theirs: Table, secrets: Record<string, string>): NonNullable<Taken['rabbit']> {
  const hide = (password: string) => {
    secrets[RABBIT_PASSWORD] = password;
    return `\${${RABBIT_PASSWORD}}`;
  };
  const url = poolUrl(document, hide);
  if (url === undefined)
    throw unusable('there is no [outgoing_pools.rabbit.event_pusher], so the address of its RabbitMQ is unknown');
  const exchanges = Object.entries(theirs).flatMap(([name, options]) =>
    isTable(options) ? [[name, Object.fromEntries(Object.entries(options).filter(isOption))] as const] : [],
  );
  return { url: { template: url }, exchanges: Object.fromEntries(exchanges) };
}

const RABBIT_PASSWORD = 'RABBITMQ_PASSWORD';

const isOption = (entry: [string, unknown]): entry is [string, Exclude<Value, object>] => isValue(entry[1]);

/** The options that we have too, with variables in place of secrets. */
function knownOptions(sns: Table, where: string, secrets: Record<string, string>, notes: string[]): Options {
  const known = shapeOf(snsOptions);
  const options: Record<string, Value> = {};
  for (const [name, value] of Object.entries(sns)) {
    if (name === 'plugin_module' && value !== 'mod_event_pusher_sns_defaults')
      notes.push(
        `${where}.plugin_module: ${String(value)} is an Erlang module; docs/plugins.md explains how to write the same as a plugin`,
      );
    else if (!Object.hasOwn(known, name)) notes.push(`${where}.${name}: xmpp-event-pusher has no such option`);
    else if (!isValue(value)) notes.push(`${where}.${name}: not copied, should be a text, a number, true or false`);
    else if (name === 'secret_access_key') options[name] = { variable: variableFor(String(value), secrets) };
    else options[name] = value;
  }
  return options;
}

/** The variable for a secret: one for each distinct secret. */
function variableFor(secret: string, secrets: Record<string, string>): string {
  const had = Object.entries(secrets).find(([, value]) => value === secret);
  if (had) return had[0];
  const number = Object.keys(secrets).length + 1;
  const name = number === 1 ? 'AWS_SECRET_ACCESS_KEY' : `AWS_SECRET_ACCESS_KEY_${number}`;
  secrets[name] = secret;
  return name;
}

const isValue = (value: unknown): value is Exclude<Value, object> => /^(string|number|boolean)$/.test(typeof value);

const isTable = (value: unknown): value is Table =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function tableAt(parent: Table | undefined, key: string): Table | undefined {
  const value = parent?.[key];
  return isTable(value) ? value : undefined;
}

const unusable = (message: string, cause?: unknown) => new PusherError('CONFIG_UNREADABLE', message, cause);
