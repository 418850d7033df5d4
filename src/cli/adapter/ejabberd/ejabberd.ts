/** The adapter in ejabberd: a contributed module, which ejabberd compiles itself, with a file of options. */
import { spawnSync } from 'node:child_process';
import { existsSync, globSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { shellWord } from '../../../quote.ts';
import { ADAPTERS, remove, replaceFolder, versionOf, writeSecret } from '../files.ts';
import type { AdapterServer, Copy, FoundAdapter, Printed, Settings, TapAccess, Where } from '../server.ts';
import { controlLine, findControl } from './control.ts';
import { inConfig, MODULE, lines as optionLines, ownFile, ownFiles, settingsIn, withTap } from './options.ts';
import { type Places, placesOf } from './places.ts';

/** Options for manual installation. Together with those in `ejabberd.yml`, they would keep ejabberd from starting. */
const EXAMPLE_OPTIONS = 'conf';
const PACKAGED = { folder: path.join(ADAPTERS, 'ejabberd'), without: [EXAMPLE_OPTIONS] };

export const ejabberd: AdapterServer = { name: 'ejabberd', present, find, install, uninstall };

function present(): boolean {
  return findControl() !== undefined;
}

function find(where: Where): FoundAdapter {
  const places = placesOf(where);
  const [live] = ownFiles(places);
  const configured = inConfig(places);
  const own = live === undefined ? [] : settingsIn(live);
  return {
    copies: copies(places),
    settings: [...configured, ...own],
    queues: places.queues,
    problems: [
      ...(configured.length > 0 && own.length > 0 ? [duplicate(configured, live as string)] : []),
      ...(configured.length + own.length === 0 ? ['no configuration has options for mod_event_pusher'] : []),
      ...compilation(places),
    ],
  };
}

function install(tap: TapAccess, where: Where, { configure } = { configure: false }): Printed {
  const places = placesOf(where);
  const configured = inConfig(places);
  const [former] = formerFiles(places);
  const before = former === undefined ? undefined : readFileSync(former, 'utf8');
  // Like the file of Prosody's options, it follows the daemon's address and secret.
  const corrected = configure && before !== undefined ? withTap(before, tap) : undefined;
  const kept = corrected ?? before;
  const isNew = !existsSync(compiledOf(places));
  const running = configure && isRunning(where);
  replaceFolder(PACKAGED, sourceOf(places));
  const options =
    configured.length > 0
      ? optionsInConfig(configured, ownFiles(places))
      : optionsOfTheirOwn(places, tap, { former, kept, isChanged: kept !== before, asleep: configure && !running });
  const wrong = options.settings.filter(({ url, secret }) => url !== tap.url || secret !== tap.secret);
  const load = running && options.ok && wrong.length === 0 && !places.unknown ? loadInto(isNew) : undefined;
  const lines = [
    `Installed ${sourceOf(places)}`,
    ...options.lines,
    ...wrong.flatMap((each) => correction(each, tap)),
    ...(places.unknown ? naming(places) : []),
    ...(load?.lines ?? []),
    ...(load?.ok ? [] : loading(isNew, options.live)),
  ];
  return { lines, ok: options.ok && wrong.length === 0 && load?.ok !== false };
}

interface Options extends Printed {
  readonly settings: readonly Settings[];
  /** The file that ejabberd already reads, if any. */
  readonly live: string | undefined;
}

function optionsInConfig(configured: readonly Settings[], others: readonly string[]): Options {
  const [file = ''] = configured.map((each) => each.file);
  const [other] = others;
  const lines = ['', `Its live options are in ${file}.`];
  if (other !== undefined) lines.push('', `WRONG: ${duplicate(configured, other)}`);
  return { lines, ok: other === undefined, settings: configured, live: file };
}

interface Kept {
  readonly former: string | undefined;
  readonly kept: string | undefined;
  /** Whether `kept` has another url or secret than the file. */
  readonly isChanged: boolean;
  /** Whether ejabberd is to be configured but does not run. */
  readonly asleep: boolean;
}

/** Writes the file of options, or moves it from a place where the module's next version would replace it. */
function optionsOfTheirOwn(places: Places, tap: TapAccess, { former, kept, isChanged, asleep }: Kept): Options {
  // If ejabberd must start before it can compile the module, `module_install` copies the options.
  const withModule = (places.unknown || asleep) && !existsSync(compiledOf(places));
  const folder = withModule ? path.join(sourceOf(places), EXAMPLE_OPTIONS) : places.options;
  const file = path.join(folder, `${MODULE}.yml`);
  if (former !== file || withModule || isChanged) writeSecret(file, kept ?? ownFile(tap), places.gid);
  if (former !== undefined && former !== file) remove(former);
  const live = withModule ? '' : 'live ';
  const as = kept === undefined ? '' : isChanged ? ", with the daemon's url and secret," : ', kept as they were,';
  const lines = ['', `Its ${live}options${as} are in ${file}, for all domains.`];
  lines.push(
    withModule
      ? `module_install copies them to ${path.join(installedOf(places), EXAMPLE_OPTIONS)}, where ejabberd reads them.`
      : 'ejabberd reads that file in addition to ejabberd.yml; do not repeat the options there.',
  );
  return { lines, ok: true, settings: settingsIn(file), live: withModule ? undefined : file };
}

/** Existing files of options, the effective one first; release 0.1.0 kept them beside the module's source. */
function formerFiles(places: Places): string[] {
  const beside = path.join(sourceOf(places), EXAMPLE_OPTIONS, `${MODULE}.yml`);
  return [...ownFiles(places), ...(settingsIn(beside).some(({ secret }) => secret !== undefined) ? [beside] : [])];
}

function correction({ file, domain, url, secret }: Settings, tap: TapAccess): string[] {
  const whose = domain === undefined ? '' : ` for ${domain}`;
  const what = [
    ...(url === tap.url ? [] : [`the url${whose} is ${url ?? 'not set'}`]),
    ...(secret === tap.secret
      ? []
      : [`the secret${whose} is ${secret === undefined ? 'not set' : "not the daemon's"}`]),
  ];
  const title = `WRONG: ${what.join(', and ')}. Correct it in ${file}, below ${MODULE}:`;
  return ['', title, '', ...optionLines(tap).map((line) => `    ${line}`)];
}

const naming = ({ modules, options }: Places): string[] => [
  '',
  'Set in ejabberdctl.cfg, and restart ejabberd:',
  '',
  `  CONTRIB_MODULES_PATH=${shellWord(modules)}`,
  `  CONTRIB_MODULES_CONF_DIR=${shellWord(options)}`,
];

/** Whether it runs. A different configuration may belong to another server, which `ejabberdctl` would not ask. */
const isRunning = ({ serverConfig }: Where): boolean =>
  serverConfig === undefined && spawnSync(findControl() ?? 'ejabberdctl', ['status']).status === 0;

/** Loads the adapter into the running ejabberd. */
function loadInto(isNew: boolean): Printed {
  const command = isNew ? 'module_install' : 'module_upgrade';
  const { status, stdout, stderr } = spawnSync(findControl() ?? 'ejabberdctl', [command, MODULE], { encoding: 'utf8' });
  if (status === 0) return { lines: ['', 'Loaded it into the running ejabberd.'], ok: true };
  return { lines: ['', `FAILED: ${controlLine(`${command} ${MODULE}`)}: ${`${stdout}${stderr}`.trim()}`], ok: false };
}

function loading(isNew: boolean, live: string | undefined): string[] {
  if (!isNew)
    return [
      '',
      'Then bring the new version into the running server:',
      '',
      `  ${controlLine(`module_upgrade ${MODULE}`)}`,
    ];
  const command = ['', `  ${controlLine(`module_install ${MODULE}`)}`];
  if (live === undefined) return ['', 'Then load it into the running server:', ...command];
  return [
    '',
    'Then load it into the running server right away: ejabberd does not start with options for a module that is not installed.',
    ...command,
    '',
    `If ejabberd is not running, move ${live} away, start ejabberd, and move the file back before you run that command.`,
  ];
}

function uninstall(where: Where): Printed {
  const places = placesOf(where);
  const configured = inConfig(places);
  if (configured.length > 0) {
    const files = [...new Set(configured.map(({ file }) => file))].join(', ');
    const lines = [
      `Nothing removed yet: ${files} has options for ${MODULE}, and ejabberd does not start with options for a module that is not installed.`,
      '',
      `Delete ${MODULE} and the lines indented below it from modules: there, then run:`,
      '',
      `  ${controlLine('reload_config')}`,
      '',
      'and run this again.',
    ];
    return { lines, ok: false };
  }
  const entries = [...ownFiles(places), ...beamsIn(places), installedOf(places), sourceOf(places)];
  const removed = [...new Set(entries)].filter((entry) => remove(entry));
  const lines = removed.length > 0 ? removed.map((entry) => `Removed ${entry}`) : ['There was nothing to remove.'];
  if (removed.length > 0)
    lines.push(
      '',
      'A running ejabberd keeps it in memory until you restart it, or run:',
      '',
      `  ${controlLine('reload_config')}`,
    );
  return { lines, ok: true };
}

const sourceOf = ({ modules }: Places) => path.join(modules, 'sources', MODULE);
const installedOf = ({ modules }: Places) => path.join(modules, MODULE);
const compiledOf = (places: Places) => path.join(installedOf(places), 'ebin', `${MODULE}.beam`);

/** Manually compiled adapters, in folders where ejabberd finds them. */
const beamsIn = ({ beams }: Places) =>
  beams.flatMap((folder) => globSync(`${folder}/{mod_event_pusher,event_pusher_*}.beam`));

/** Compiled copies, of which ejabberd loads the first; and the source if it isn't compiled yet. */
function copies(places: Places): Copy[] {
  const source = sourceOf(places);
  const version = existsSync(source) ? versionOf(source, PACKAGED) : 'unknown';
  const beams = beamsIn(places).filter((beam) => path.basename(beam) === `${MODULE}.beam`);
  const installed = existsSync(compiledOf(places)) ? [{ path: installedOf(places), version }] : [];
  const compiled = [...beams.map((beam) => ({ path: beam, version: 'unknown' })), ...installed];
  return installed.length === 0 && existsSync(source) ? [...compiled, { path: source, version }] : compiled;
}

/** Problems of the compiled module. */
function compilation(places: Places): string[] {
  const source = path.join(sourceOf(places), 'src');
  const beam = compiledOf(places);
  if (!existsSync(source)) return [];
  if (!existsSync(beam)) return [`not loaded yet; run: ${controlLine(`module_install ${MODULE}`)}`];
  if (statSync(beam).mtimeMs >= statSync(source).mtimeMs) return [];
  return [
    `the source is newer than the module that ejabberd compiled; run: ${controlLine(`module_upgrade ${MODULE}`)}`,
  ];
}

const duplicate = (configured: readonly Settings[], file: string) =>
  `both ${configured[0]?.file} and ${file} have the options, so ejabberd does not start: delete one of the two`;
