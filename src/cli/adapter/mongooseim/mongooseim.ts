/**
 * The adapter in MongooseIM: compiled modules in a separate folder, a line in `vm.args` that names it, the options in
 * `app.config`, and an empty section in `mongooseim.toml`.
 */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { erlangString, shellWord } from '../../../quote.ts';
import { remove, replaceFolder } from '../files.ts';
import type { AdapterServer, FoundAdapter, Printed, Settings, TapAccess, Where } from '../server.ts';
import { findBeams } from './beams.ts';
import { FOLDER, type Places, placesOf } from './places.ts';

const MODULE = 'mod_xmpp_event_pusher';

export const mongooseim: AdapterServer = { name: 'mongooseim', present, find, install, uninstall };

function present(): boolean {
  const { config, release } = placesOf({});
  return config !== undefined || release !== undefined;
}

function find(where: Where): FoundAdapter {
  const places = placesOf(where);
  const { ebin, config, queues } = places;
  const settings = settingsIn(config?.app);
  return {
    copies: existsSync(path.join(ebin, `${MODULE}.beam`))
      ? [{ path: path.join(places.to, FOLDER), version: versionIn(places) }]
      : [],
    settings,
    queues,
    problems: problems(places, settings),
  };
}

function problems({ ebin, config, to }: Places, settings: readonly Settings[]): string[] {
  if (!config) return [];
  const section = sectionOf(config.toml);
  const isNamed = read(config.vm)
    .split('\n')
    .some((line) => new RegExp(`^\\s*-p[az]\\s+${escaped(ebin)}/?\\s*$`).test(line));
  return [
    ...(section === undefined ? [`${config.toml} has no [modules.${MODULE}]`] : []),
    ...(section
      ? [`[modules.${MODULE}] in ${config.toml} must be empty: MongooseIM does not start with options there`]
      : []),
    ...(isNamed ? [] : [`${config.vm} does not name ${ebin}; is ERL_LIBS=${to} in the server's environment?`]),
    ...(settings.length === 0
      ? [`${config.app} has no options for the adapter; are they in the server's environment?`]
      : []),
  ];
}

function install(tap: TapAccess, where: Where): Printed {
  const places = placesOf(where);
  const { config, to, ebin, release } = places;
  using beams = findBeams(release);
  put(beams.folder, path.join(to, FOLDER));
  const wrong = settingsIn(config?.app).filter(({ url, secret }) => url !== tap.url || secret !== tap.secret);
  const isSet = settingsIn(config?.app).length > 0;
  const lines = [
    `Installed ${ebin}, compiled by OTP ${beams.otp}: runs on MongooseIM 6.1 and later with OTP ${beams.otp} or later`,
    '',
    `Add to ${config?.vm ?? 'etc/vm.args'}:`,
    '',
    `  -pa ${ebin}`,
    '',
    ...(isSet && wrong.length === 0
      ? [`Its options are in ${config?.app}.`]
      : [
          `${isSet ? 'WRONG: different options are in' : 'Add to'} ${config?.app ?? 'etc/app.config'}${isSet ? '. Correct them' : ', after the first "["'}:`,
          '',
          `  {mongooseim, [{xmpp_event_pusher, [{url, ${erlangString(tap.url)}}, {secret, ${erlangString(tap.secret)}}]}]},`,
        ]),
    '',
    `Add to ${config?.toml ?? 'etc/mongooseim.toml'}, with nothing below it, since MongooseIM does not start with options there:`,
    '',
    `  [modules.${MODULE}]`,
    '',
    'and restart MongooseIM.',
    '',
    'In a container, set the environment instead of vm.args and app.config:',
    '',
    `  ERL_LIBS=${to}`,
    `  XMPP_EVENT_PUSHER_URL=${shellWord(tap.url)}`,
    `  XMPP_EVENT_PUSHER_SECRET=${shellWord(tap.secret)}`,
  ];
  return { lines, ok: wrong.length === 0 };
}

/** `ERL_LIBS` requires folders with an `ebin`. */
function put(beams: string, to: string): void {
  const whole = mkdtempSync(path.join(tmpdir(), 'xmpp-event-pusher-'));
  try {
    mkdirSync(path.join(whole, 'ebin'));
    cpSync(beams, path.join(whole, 'ebin'), { recursive: true });
    replaceFolder({ folder: whole, without: [] }, to);
  } finally {
    rmSync(whole, { recursive: true, force: true });
  }
}

function uninstall(where: Where): Printed {
  const { to, ebin, config } = placesOf(where);
  if (config && sectionOf(config.toml) !== undefined)
    return {
      lines: [
        `Nothing removed yet: ${config.toml} has [modules.${MODULE}], and MongooseIM does not start without that module.`,
        '',
        `Delete [modules.${MODULE}] there, restart MongooseIM, and run this again.`,
      ],
      ok: false,
    };
  const removed = remove(path.join(to, FOLDER));
  if (!removed) return { lines: ['There was nothing to remove.'], ok: true };
  return {
    lines: [
      `Removed ${path.join(to, FOLDER)}`,
      '',
      `Delete the line with -pa ${ebin} from vm.args, and the options of xmpp_event_pusher from app.config.`,
    ],
    ok: true,
  };
}

const versionIn = ({ to }: Places): string => read(path.join(to, FOLDER, 'VERSION')).trim() || 'unknown';

/** The options in `app.config`, as far as readable without Erlang. */
function settingsIn(file: string | undefined): Settings[] {
  if (file === undefined) return [];
  const text = read(file).replace(/^\s*%.*$/gm, '');
  const options = /\{\s*xmpp_event_pusher\s*,\s*\[([\s\S]*?)\]\s*\}/.exec(text)?.[1];
  if (options === undefined) return [];
  const option = (name: string) => {
    const value = new RegExp(`\\{\\s*${name}\\s*,\\s*(?:<<)?"((?:[^"\\\\]|\\\\.)*)"`).exec(options)?.[1];
    return value?.replace(/\\x\{([\da-f]+)\}|\\(.)/gi, (_, code: string | undefined, character: string) =>
      code === undefined ? character : String.fromCodePoint(Number.parseInt(code, 16)),
    );
  };
  return [
    { domain: undefined, file, url: option('url') ?? 'http://127.0.0.1:5290/v1/events', secret: option('secret') },
  ];
}

/** Whether the module's section has keys; undefined where there is no such section. */
function sectionOf(toml: string): boolean | undefined {
  const lines = read(toml)
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim());
  const at = lines.findIndex((line) => /^\[\s*modules\s*\.\s*"?mod_xmpp_event_pusher"?\s*\]$/.test(line));
  if (at < 0) return undefined;
  return (
    lines
      .slice(at + 1)
      .find((line) => line !== '')
      ?.startsWith('[') === false
  );
}

const read = (file: string): string => (existsSync(file) ? readFileSync(file, 'utf8') : '');

const escaped = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
