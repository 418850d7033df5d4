/** `plugin test`: compares events' notifications with and without a plugin. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import { sectionsOf } from '../config/load.ts';
import type { SnsOptions } from '../config/sns-options.ts';
import { messageOf, PusherError } from '../errors.ts';
import { isMalformed, parseEvent, type XmppEvent } from '../event.ts';
import { json, printableLines } from '../format.js';
import { compileAdditions } from '../notification/additions.ts';
import { type Notification, type Route, type Translation, translate } from '../notification/notification.ts';
import type { SnsPlugin } from '../notification/plugin.ts';
import { loadPlugin } from '../notification/plugins.ts';
import { topicRoutes } from '../sns/account.ts';
import { type ConfigFlags, findOwnConfig, readConfig } from './configuration.ts';
import { configurable } from './options.ts';
import { SAMPLE_EVENTS } from './plugin-samples.ts';

interface TestOptions extends ConfigFlags {
  events?: string;
  json?: boolean;
}

export function pluginCommand(): Command {
  const test = configurable(new Command('test'))
    .description('Run a plugin on events, and show topic, JSON and attributes with and without it.')
    .argument(
      '[module]',
      'the plugin, a path or a package (default: the configured one, with the configured topics and templates; --config adds those to a named plugin)',
    )
    .option(
      '-e, --events <file>',
      'file of events to run it on: a batch of the tap protocol, a JSON list, or JSON lines',
    )
    .option('--json', 'print one JSON object for each event')
    .action(testPlugin);
  return new Command('plugin').description('Try out a plugin.').addCommand(test);
}

async function testPlugin(
  module: string | undefined,
  { events, json: asJson, ...flags }: TestOptions,
  command: Command,
) {
  const config = module === undefined ? findOwnConfig(flags) : flags.config;
  if (module === undefined && config === undefined)
    command.error('error: name a plugin, or a configuration with --config');
  const routeOf = await routes(module, config === undefined ? undefined : { ...flags, config });
  let failed = false;
  for (const event of events === undefined ? SAMPLE_EVENTS : readEvents(events)) {
    const route = routeOf(event.host);
    const plain = await translate(event, route && { ...route, plugin: {} });
    const made = await translate(event, route);
    failed ||= made.kind === 'dead';
    process.stdout.write(
      asJson ? `${json({ event, without: plain, with: made })}\n` : printableLines(sideBySide(event, plain, made)),
    );
  }
  if (failed) process.exitCode = 1;
}

/** A virtual host's routing with the plugin: as configured, or to the documentation's topics. */
async function routes(
  module: string | undefined,
  flags: ConfigFlags | undefined,
): Promise<(host: string) => Route | undefined> {
  if (flags === undefined) {
    const plugin = await loadNamed(module ?? '');
    return () => routeWith(plugin);
  }
  const loaded = readConfig(flags, { uses: 'routing' });
  const sections = new Map<string, Route | undefined>();
  for (const [host, options] of sectionsOf(loaded)) {
    if (!options) sections.set(host, undefined);
    // Paths on the command line are relative to the current folder, those in the configuration to its folder.
    else if (module !== undefined) sections.set(host, routeWith(await loadNamed(module), options));
    else sections.set(host, routeWith(await loadPlugin(options.plugin_module, loaded.file), options));
  }
  return (host) => sections.get(sections.has(host.toLowerCase()) ? host.toLowerCase() : '');
}

/** Loads a plugin that the command line names: relative to the current folder. @throws PusherError PLUGIN_UNUSABLE */
const loadNamed = (module: string): Promise<SnsPlugin> =>
  loadPlugin(module, path.resolve('pusher.toml'), `plugin_module "${module}"`);

const TOPICS = { presence: 'user_presence_updated', pm: 'user_message_sent', muc: 'user_messagegroup_sent' };

const routeWith = (plugin: SnsPlugin, options?: SnsOptions): Route => ({
  topics: options ? topicRoutes(options) : TOPICS,
  plugin,
  presence: options?.presence ?? 'user',
  additions: compileAdditions(options ?? { attributes: [] }),
  maxBytes: () => 262_144,
});

/** @throws PusherError BATCH_INVALID */
function readEvents(file: string): XmppEvent[] {
  const fault = (why: string) => new PusherError('BATCH_INVALID', `can't read events from ${file}: ${why}`);
  let list: unknown[];
  try {
    list = eventsIn(readFileSync(file, 'utf8'));
  } catch (error) {
    throw fault(messageOf(error));
  }
  if (list.length === 0) throw fault('it has none');
  return list.map((raw, index) => {
    const event = parseEvent(raw);
    if (isMalformed(event)) throw fault(`event ${index + 1} ${event.problem}`);
    const { id } = raw as { id?: unknown };
    return { ...event, id: typeof id === 'string' ? id : `test/test/${index + 1}` };
  });
}

/** A batch, a list, or lines. */
function eventsIn(text: string): unknown[] {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  const whole: unknown =
    lines.length > 1 && lines.every(isJson) ? lines.map((line) => JSON.parse(line)) : JSON.parse(text);
  const list = Array.isArray(whole) ? whole : [whole];
  return list.flatMap((item) => (Array.isArray(item?.events) ? item.events : [item]));
}

function isJson(line: string): boolean {
  try {
    JSON.parse(line);
    return true;
  } catch {
    return false;
  }
}

const ROWS: readonly [string, (notification: Notification) => string][] = [
  ['topic', ({ topic }) => topic],
  ['message', ({ message }) => message],
  [
    'attributes',
    ({ attributes }) => attributes.map(({ name, type, value }) => `${name}: ${type} = ${value}`).join('\n'),
  ],
];

/** One event: its notification without the plugin and, if different, with it. */
function sideBySide(event: XmppEvent, plain: Translation, made: Translation): string {
  const rows =
    plain.kind === 'publish' && made.kind === 'publish'
      ? ROWS.map(([what, of]) => pair(what, of(plain.notification), of(made.notification)))
      : [pair('outcome', outcome(plain), outcome(made))];
  return `${inShort(event)}\n${rows.join('')}\n`;
}

const pair = (what: string, before: string, after: string): string =>
  before === after ? line(what, '   both', after) : line(what, 'without', before) + line('', '   with', after);

const line = (what: string, side: string, value: string): string =>
  `  ${what.padEnd(10)}  ${side}  ${value.replaceAll('\n', `\n${' '.repeat(23)}`) || '–'}\n`;

function outcome(translation: Translation): string {
  if (translation.kind === 'publish') return 'published';
  return translation.kind === 'skip' ? `not published: ${translation.reason}` : `dead letter: ${translation.detail}`;
}

function inShort(event: XmppEvent): string {
  if (event.kind === 'presence') return `${event.jid} ${event.present ? 'comes online' : 'goes offline'}`;
  return `${event.type} from ${event.from} to ${event.to}`;
}
