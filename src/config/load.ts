/** Reads a configuration file: TOML in, checked options out, or one error that lists every mistake. */
import { isUtf8 } from 'node:buffer';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { distance } from 'fastest-levenshtein';
import { parse as parseToml, TomlError } from 'smol-toml';
import type { z } from 'zod';
import { messageOf, PusherError } from '../errors.ts';
import { countOf } from '../format.js';
import { misspelt, type Place, SECTION_NAMES } from './foreign.ts';
import {
  DAEMON_ONLY,
  type Environment,
  interpolate,
  isTable,
  KEYS,
  type Mistake,
  NO_SECRET,
  type Table,
  variableOf,
} from './interpolate.ts';
import { optionTexts, sectionRules } from './option.ts';
import {
  type AdminOptions,
  type HttpTapOptions,
  type LogOptions,
  type OutboxOptions,
  sections,
  type TraceOptions,
} from './options.ts';
import { rabbitPlaces } from './rabbitmq.ts';
import type { RabbitTapOptions } from './rabbitmq-options.ts';
import { type SnsOptions, snsOptions } from './sns-options.ts';

export interface PusherConfig {
  /** Absolute path of the file it came from; other paths in it are relative to the file's folder. */
  readonly file: string;
  /** Options for every virtual host without a section in `host_config`. */
  readonly sns: SnsOptions | undefined;
  /**
   * Options of single virtual hosts, by name. `null`: the host has `host_config.modules` without our section, which, as
   * in MongooseIM, overrides the general modules completely, so nothing of that host is published.
   */
  readonly hosts: ReadonlyMap<string, SnsOptions | null>;
  readonly tap: { readonly http: HttpTapOptions; readonly rabbitmq: RabbitTapOptions | undefined };
  readonly outbox: OutboxOptions;
  readonly trace: TraceOptions;
  readonly admin: AdminOptions;
  readonly log: LogOptions;
  /** Ignored sections, as dotted paths, for a line in the log. */
  readonly ignored: readonly string[];
  /** Names of the environment variables used in the file. */
  readonly variables: readonly string[];
}

/** The `sns` sections by virtual host, the general one under `''`; `null`: the host publishes nothing. */
export function sectionsOf({ sns, hosts }: PusherConfig): Map<string, SnsOptions | null> {
  return new Map([['', sns ?? null], ...hosts]);
}

export interface LoadOptions {
  /**
   * What the command uses; placeholders replace missing variables of other secrets. By default all; `routing`: only what
   * is published and where to, the sections of `modules` and `host_config`; `aws`: also their keys; `outbox`: the outbox
   * and the daemon's address.
   */
  readonly uses?: 'routing' | 'aws' | 'outbox';
}

/**
 * Reads and checks a configuration file.
 * @param file its path
 * @param environment resolves `${NAME}`
 * @throws PusherError CONFIG_UNREADABLE if it can't be read or is not TOML, CONFIG_INVALID with every mistake in it
 */
export function loadConfig(
  file: string,
  environment: Environment = process.env,
  options: LoadOptions = {},
): PusherConfig {
  return parseConfig(readText(file), path.resolve(file), environment, options);
}

/** The section `tap.http`. */
export interface HttpTapSection {
  readonly options: HttpTapOptions;
  /** Whether the file has the section at all. */
  readonly written: boolean;
}

/**
 * Reads the section `tap.http` of a configuration file, ignoring mistakes in other sections.
 * @throws PusherError CONFIG_UNREADABLE like {@link loadConfig}, CONFIG_INVALID with the mistakes in the section
 */
export function loadHttpTap(file: string, environment: Environment = process.env): HttpTapSection {
  const at = path.resolve(file);
  const document = parseDocument(readText(file), at);
  const mistakes: Mistake[] = [];
  const written = tableAt(document, 'tap', mistakes)?.http;
  // The key's path may use a variable that systemd sets for the daemon alone.
  const lookUp = (name: string, at: string) =>
    variableOf(environment, name) ?? (at === 'tap.http.tls_key' ? NO_SECRET : undefined);
  const meant = interpolate(written, 'tap.http', lookUp, mistakes);
  const options = check(sections['tap.http'], 'tap.http', { written, meant }, mistakes);
  if (!options || mistakes.length > 0) throw invalid(at, mistakes);
  return { options, written: written !== undefined };
}

function readText(file: string): string {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    throw new PusherError('CONFIG_UNREADABLE', `can't read the configuration ${file}: ${messageOf(error)}`, error);
  }
  return decode(bytes, path.resolve(file));
}

/** Decodes UTF-8 strictly: a name or a secret with a replacement character would fail much later. */
function decode(bytes: Buffer, file: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    let line = 1;
    let start = 0;
    // The first line that can't be decoded. In UTF-8 the newline's byte is never part of another character.
    for (let end = bytes.indexOf(10); end >= 0 && isUtf8(bytes.subarray(start, end)); end = bytes.indexOf(10, start)) {
      start = end + 1;
      line += 1;
    }
    throw new PusherError('CONFIG_UNREADABLE', `${file}:${line}: not UTF-8; save the file as UTF-8`, error);
  }
}

function parseDocument(text: string, file: string): Table {
  try {
    return parseToml(text) as Table;
  } catch (error) {
    const where = error instanceof TomlError ? `${file}:${error.line}:${error.column}` : file;
    const [reason] = messageOf(error).split('\n');
    throw new PusherError('CONFIG_UNREADABLE', `${where}: not valid TOML: ${reason}`, error);
  }
}

function invalid(file: string, mistakes: readonly Mistake[]): PusherError {
  const lines = mistakes.map(({ path, problem }) => `  ${path} ${problem}`);
  const count = countOf(mistakes.length, 'mistake');
  return new PusherError('CONFIG_INVALID', `${file}: ${count}\n${lines.join('\n')}`);
}

/** Like {@link loadConfig}, for a text already read; `file` is its absolute path. */
export function parseConfig(
  text: string,
  file: string,
  environment: Environment = process.env,
  { uses }: LoadOptions = {},
): PusherConfig {
  const whole = parseDocument(text, file);
  const document: Table = uses === 'routing' ? { modules: whole.modules, host_config: whole.host_config } : whole;
  const mistakes: Mistake[] = [];
  const ignored: string[] = [];
  const variables = new Set<string>();
  const lookUp = (name: string, at: string) => {
    variables.add(name);
    const found = variableOf(environment, name);
    const isUnused = uses !== undefined && ((uses !== 'aws' && KEYS.test(at)) || DAEMON_ONLY.test(at));
    return isUnused && !found ? NO_SECRET : found;
  };
  const resolve = (input: unknown, at: string) => interpolate(input, at, lookUp, mistakes);
  const read = <S extends z.ZodType>(schema: S, at: string, input: unknown) =>
    check(schema, at, { written: input, meant: resolve(input, at) }, mistakes);

  foreignKeys(document, '', SECTION_NAMES.file, ignored, mistakes);
  const sns = readModules(document, '', ignored, read, mistakes);
  const tap = tableAt(document, 'tap', mistakes) ?? {};
  unknownKeys(tap, 'tap', ['http', 'rabbitmq'], mistakes);
  const hosts = readHosts(document, ignored, read, resolve, mistakes);
  const config = {
    file,
    sns: sns ?? undefined,
    hosts,
    tap: {
      http: read(sections['tap.http'], 'tap.http', tap.http),
      rabbitmq: readRabbit(document, ignored, read, mistakes),
    },
    outbox: read(sections.outbox, 'outbox', document.outbox),
    trace: read(sections.trace, 'trace', document.trace),
    admin: read(sections.admin, 'admin', document.admin),
    log: read(sections.log, 'log', document.log),
    ignored,
    variables: [...variables],
  };
  if (mistakes.length === 0 && !sns && ![...hosts.values()].some(Boolean))
    mistakes.push({
      path: 'modules.mod_event_pusher.sns',
      problem: `is required${elsewhere(document)}`,
    });
  if (mistakes.length > 0) throw invalid(file, mistakes);
  // Without a mistake, every section has parsed.
  return config as PusherConfig;
}

/** Names the sections of host types where the file has no others, as with MongooseIM's dynamic domains. */
function elsewhere(document: Table): string {
  const entries = Array.isArray(document.host_config) ? document.host_config.filter(isTable) : [];
  const types = entries.flatMap(({ host_type, modules }) => {
    const pusher = isTable(modules) ? modules.mod_event_pusher : undefined;
    return isTable(pusher) && isTable(pusher.sns) ? [JSON.stringify(host_type)] : [];
  });
  if (types.length === 0) return '';
  return `; the file has one for the host type ${types.join(', ')}, but events name domains, not host types: write the section once for all domains, or in a [[host_config]] with host = "…" for each`;
}

type Read = <S extends z.ZodType>(schema: S, at: string, input: unknown) => z.infer<S> | undefined;

/** The `sns` options below `parent.modules`: undefined without any modules, null if the modules lack our section. */
function readModules(
  parent: Table,
  prefix: string,
  ignored: string[],
  read: Read,
  mistakes: Mistake[],
): SnsOptions | null | undefined {
  const modules = tableAt(parent, 'modules', mistakes, prefix);
  if (!modules) return undefined;
  const at = `${prefix}modules`;
  foreignKeys(modules, at, SECTION_NAMES.modules, ignored, mistakes);
  const pusher = tableAt(modules, 'mod_event_pusher', mistakes, `${at}.`);
  if (!pusher) return null;
  foreignKeys(pusher, `${at}.mod_event_pusher`, SECTION_NAMES.mod_event_pusher, ignored, mistakes);
  return pusher.sns === undefined ? null : read(snsOptions, `${at}.mod_event_pusher.sns`, pusher.sns);
}

/** The options of `tap.rabbitmq`, some of which may be in MongooseIM's own sections. */
function readRabbit(document: Table, ignored: string[], read: Read, mistakes: Mistake[]): RabbitTapOptions | undefined {
  const places = rabbitPlaces(document);
  if (!places) return undefined;
  const { tap, exchanges, theirs } = places;
  if (theirs !== undefined && ignored.includes(theirs)) ignored.splice(ignored.indexOf(theirs), 1);
  const options = read(sections['tap.rabbitmq'], tap.at, tap.input);
  const { presence_exchange: one, chat_msg_exchange: two, groupchat_msg_exchange: three } = exchanges;
  const presence = read(sections['tap.rabbitmq.presence_exchange'], one.at, one.input);
  const chat = read(sections['tap.rabbitmq.chat_msg_exchange'], two.at, two.input);
  const groupchat = read(sections['tap.rabbitmq.groupchat_msg_exchange'], three.at, three.input);
  if (!options || !presence || !chat || !groupchat) return undefined;
  if (chat.name === groupchat.name && chat.sent_topic === groupchat.sent_topic)
    mistakes.push({
      path: `${three.at}.sent_topic`,
      problem: "is the same as chat_msg_exchange's, and so is the exchange's name: their messages can't be told apart",
    });
  return { ...options, presence_exchange: presence, chat_msg_exchange: chat, groupchat_msg_exchange: groupchat };
}

function readHosts(
  document: Table,
  ignored: string[],
  read: Read,
  resolve: (input: unknown, at: string) => unknown,
  mistakes: Mistake[],
): Map<string, SnsOptions | null> {
  const hosts = new Map<string, SnsOptions | null>();
  const list = document.host_config ?? [];
  if (!Array.isArray(list)) {
    mistakes.push({ path: 'host_config', problem: `is ${shown(list)}, should be a list: [[host_config]]` });
    return hosts;
  }
  list.forEach((entry: unknown, index) => {
    const prefix = `host_config[${index}].`;
    if (!isTable(entry)) {
      mistakes.push({ path: `host_config[${index}]`, problem: `is ${shown(entry)}, should be a section` });
      return;
    }
    foreignKeys(entry, prefix.slice(0, -1), SECTION_NAMES.hostConfig, ignored, mistakes);
    const sns = readModules(entry, prefix, ignored, read, mistakes);
    // A host without modules of its own has the general ones. A host type is MongooseIM's grouping of dynamic domains;
    // events have domains only, so host types can't be matched.
    if (sns === undefined) return;
    const name = resolve(entry.host, `${prefix}host`);
    if (typeof name !== 'string' || !/^[^\s@/]+$/.test(name)) {
      if (typeof entry.host_type === 'string') ignored.push(`${prefix}modules (of host_type "${entry.host_type}")`);
      else
        mistakes.push({
          path: `${prefix}host`,
          problem: `is ${shown(entry.host)}, should be the name of an XMPP domain`,
        });
      return;
    }
    const host = name.toLowerCase();
    if (hosts.has(host))
      mistakes.push({ path: `${prefix}host`, problem: `is ${shown(entry.host)}, which has a host_config already` });
    hosts.set(host, sns);
  });
  return hosts;
}

function tableAt(parent: Table, key: string, mistakes: Mistake[], prefix = ''): Table | undefined {
  const value = parent[key];
  if (value === undefined || isTable(value)) return value;
  mistakes.push({ path: `${prefix}${key}`, problem: `is ${shown(value)}, should be a section` });
  return undefined;
}

/** Sorts foreign sections: MongooseIM's and unknown ones are ignored, misspelt ones of ours are mistakes. */
function foreignKeys(table: Table, at: string, place: Place, ignored: string[], mistakes: Mistake[]): void {
  for (const [key, value] of Object.entries(table)) {
    if (place.ours.includes(key)) continue;
    const path = at === '' ? key : `${at}.${key}`;
    const meant = misspelt(key, place);
    if (meant !== undefined) mistakes.push({ path, problem: `is not a known section; did you mean "${meant}"?` });
    else if (at === '' && typeof value !== 'object') mistakes.push({ path, problem: 'is outside of any section' });
    else ignored.push(path);
  }
}

function unknownKeys(table: Table, at: string, known: string[], mistakes: Mistake[]): void {
  for (const key of Object.keys(table)) if (!known.includes(key)) mistakes.push(unknownKey(at, key, known));
}

function unknownKey(at: string, key: string, known: readonly string[]): Mistake {
  return { path: `${at}.${key}`, problem: `is not a known option; did you mean "${nearest(key, known)}"?` };
}

function nearest(name: string, names: readonly string[]): string {
  return names.toSorted((a, b) => distance(name, a) - distance(name, b))[0] ?? '';
}

/** A value as written in the file, and with the environment's values filled in. Only the first is ever shown. */
interface Input {
  readonly written: unknown;
  readonly meant: unknown;
}

function check<S extends z.ZodType>(schema: S, at: string, input: Input, mistakes: Mistake[]): z.infer<S> | undefined {
  const { meant } = input;
  const rule = sectionRules.get(inner(schema));
  if (rule && isTable(meant))
    for (const { option, problem } of rule(meant)) mistakes.push({ path: `${at}.${option}`, problem });
  const result = schema.safeParse(meant);
  if (result.success) return result.data;
  // An unset variable was reported already.
  const reported = new Set(mistakes.map(({ path }) => path.replace(/\[\d+\]$/, '')));
  for (const issue of result.error.issues) {
    if (issue.code === 'unrecognized_keys') {
      const known = Object.keys(shapeOf(schema));
      for (const key of issue.keys) mistakes.push(unknownKey(at, key, known));
      continue;
    }
    // An option can break several rules at once (a pattern and a length): one line with the expected form is enough.
    const [key] = issue.path;
    const path = key === undefined ? at : `${at}.${String(key)}`;
    if (reported.has(path)) continue;
    reported.add(path);
    mistakes.push({
      path,
      problem: (issue.code === 'custom' && issue.params?.problem) || mistakeIn(schema, key, input),
    });
  }
  return undefined;
}

function mistakeIn(schema: z.ZodType, key: PropertyKey | undefined, { written, meant }: Input): string {
  if (key === undefined || !isTable(written) || !isTable(meant)) return `is ${shown(written)}, should be a section`;
  const value = written[String(key)];
  const text = optionTexts.get(shapeOf(schema)[String(key)] as z.ZodType);
  if (typeof value === 'string' && /^\$\{[^}]+\}$/.test(value) && meant[String(key)] === '')
    return `is ${value}, which is empty in the environment, should be ${text?.expects}`;
  const from = typeof value === 'string' && value !== meant[String(key)] ? ' from the environment' : '';
  if (value !== undefined) return `is ${shown(value, String(key))}${from}, should be ${text?.expects}`;
  return `is required: ${text?.expects}`;
}

/** A section's schema without its default. */
const inner = (schema: z.ZodType): z.ZodType =>
  'unwrap' in schema && typeof schema.unwrap === 'function' ? (schema.unwrap() as z.ZodType) : schema;

/** The options of a section's schema by name. */
export function shapeOf(schema: z.ZodType): Record<string, z.ZodType> {
  const section = inner(schema);
  return 'shape' in section ? (section.shape as Record<string, z.ZodType>) : {};
}

function shownText(text: string): string {
  // An address without a scheme may still contain a password.
  const isAddress = /\/\/|:.*@/s.test(text);
  const shown = isAddress ? text.replace(/^(\w+:\/\/)?.*@/s, '$1…@') : text;
  return JSON.stringify(shown.length > 60 ? `${shown.slice(0, 60)}…` : shown);
}

/** Describes a value without showing secrets or passwords in URLs. */
function shown(value: unknown, key = ''): string {
  if (value === undefined) return 'missing';
  if (/secret|token|password/.test(key)) return `a ${typeof value}${value === '' ? ' that is empty' : ''}`;
  if (typeof value === 'string') return shownText(value);
  if (Array.isArray(value))
    return `the list [${value.map((each) => (typeof each === 'string' ? shownText(each) : JSON.stringify(each))).join(',')}]`;
  if (isTable(value)) return 'a section';
  if (value instanceof Date) return `the date ${value.toISOString()}`;
  return `the ${typeof value} ${String(value)}`;
}
