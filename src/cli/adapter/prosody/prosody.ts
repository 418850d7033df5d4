/** The adapter in Prosody: a subfolder of a modules folder, and a few lines for each virtual host. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { PusherError } from '../../../errors.ts';
import { shellWord } from '../../../quote.ts';
import { ADAPTERS, isPackaged, onPath, remove, replaceFolder, versionOf } from '../files.ts';
import type { AdapterServer, Copy, FoundAdapter, Printed, Settings, TapAccess, Where } from '../server.ts';
import { filesNaming, type ProsodyConfiguration, placeOfOptions, readProsody, replacedLists } from './configuration.ts';
import { ownFileOf, writeOwnFile } from './own-file.ts';
import { forAnyHost, forHosts } from './printed.ts';

const MODULE = 'mod_event_pusher';
const PACKAGED = { folder: path.join(ADAPTERS, 'prosody', MODULE), without: [] };
/** The folder for administrators' modules, if Prosody's configuration names none. */
const LOCAL_MODULES = '/usr/local/lib/prosody/modules';

export const prosody: AdapterServer = { name: 'prosody', present, find, install, uninstall };

function present(): boolean {
  return onPath('prosodyctl');
}

function find(where: Where): FoundAdapter {
  const { to } = where;
  const config = read(where);
  const folders = [...(config ? searched(config) : []), ...(to === undefined ? [] : [path.resolve(to)])];
  const hosts = config?.hosts ?? [];
  const file = config?.file ?? '';
  const settings = config ? settingsOf(config) : [];
  const problems = [
    ...hosts.filter(({ disabled }) => disabled).map(({ name }) => `modules_disabled of ${name} names event_pusher`),
    ...(config ? replacedLists(config) : []),
    ...(config && settings.length === 0 ? [`no VirtualHost of ${file} has event_pusher in its modules_enabled`] : []),
  ];
  // A user may leave a virtual host out on purpose, or have forgotten one that was added later.
  const warnings = settings.length === 0 ? [] : hosts.filter(({ enabled, disabled }) => !enabled && !disabled);
  const queues = hosts.map(({ queue }) => queue).filter((queue) => existsSync(queue));
  return {
    copies: copiesIn([...new Set(folders)]),
    settings,
    queues,
    problems,
    warnings: warnings.map(({ name }) => `${name}: not enabled, so nothing of this virtual host is published`),
  };
}

const settingsOf = (config: ProsodyConfiguration): Settings[] =>
  config.hosts
    .filter(({ enabled }) => enabled)
    .map((host) => ({ domain: host.name, file: placeOfOptions(config, host), url: host.url, secret: host.secret }));

function install(tap: TapAccess, where: Where, { configure } = { configure: false }): Printed {
  const found = read(where);
  const folder = where.to === undefined ? chooseFolder(found as ProsodyConfiguration) : path.resolve(where.to);
  const target = path.join(folder, MODULE);
  replaceFolder(PACKAGED, target);
  // Release 0.1.0 was a single file.
  remove(path.join(folder, `${MODULE}.lua`));
  const written = configure && found ? writeOwnFile(found, folder, tap) : undefined;
  const config = written?.config ?? found;
  const others = copiesIn(config ? searched(config) : []).filter((copy) => copy.path !== target);
  const twice = others.flatMap(({ path: other }) => ['', `WRONG: ${another(other)}`]);
  // Those that had it before need a reload of the module.
  const fresh = written?.hosts.filter((name) => !enabledHosts(found).includes(name));
  const configuring = config ? forHosts(config, folder, tap, fresh) : forAnyHost(folder, tap);
  const wrote = written ? [`Wrote ${written.file}, for ${written.hosts.join(', ')}`] : [];
  return {
    lines: [`Installed ${target}`, ...wrote, ...twice, ...configuring.lines],
    ok: others.length === 0 && configuring.ok,
  };
}

const another = (copy: string) =>
  `there is another copy of the adapter, which Prosody may load instead. ${
    isPackaged(copy) ? `Remove ${path.dirname(copy)} from plugin_paths.` : `Remove it: rm -r ${shellWord(copy)}`
  }`;

function uninstall(where: Where): Printed {
  const { to } = where;
  const config = read(where);
  const folders = to === undefined ? searched(config as ProsodyConfiguration) : [path.resolve(to)];
  const own = config ? ownFileOf(config) : undefined;
  const removed = [
    ...copiesIn(folders).filter((copy) => remove(copy.path)),
    ...(own !== undefined && remove(own) ? [{ path: own }] : []),
  ];
  const lines = removed.length > 0 ? removed.map((copy) => `Removed ${copy.path}`) : ['There was nothing to remove.'];
  const had = enabledHosts(config);
  // Without the file that was just removed.
  const rest = own !== undefined && config ? readProsody(config.file) : config;
  const hosts = enabledHosts(rest);
  if (config && had.length === 0) return { lines, ok: true };
  if (rest === undefined || hosts.length > 0) {
    const from = `${rest ? filesNaming(rest).join(' and ') : 'prosody.cfg.lua'}${hosts.length > 0 ? `, for ${hosts.join(', ')}` : ''}`;
    lines.push(
      '',
      `Delete from ${from}, or Prosody logs an error at its next start:`,
      '',
      '  "event_pusher" in modules_enabled, event_pusher_url, event_pusher_secret, and every other option that begins with event_pusher_',
    );
  }
  lines.push('', 'A running Prosody keeps it in memory until you restart it, or run:', '', ...unload(had));
  return { lines, ok: true };
}

const enabledHosts = (config: ProsodyConfiguration | undefined): string[] =>
  config?.hosts.filter(({ enabled }) => enabled).map(({ name }) => name) ?? [];

/** The configuration; undefined if the folder was given and there is no Prosody. */
function read({ to, serverConfig }: Where): ProsodyConfiguration | undefined {
  try {
    return readProsody(serverConfig);
  } catch (error) {
    if (to === undefined || serverConfig !== undefined || !(error instanceof PusherError)) throw error;
    return undefined;
  }
}

const unload = (hosts: readonly string[]) =>
  (hosts.length > 0 ? hosts : ['DOMAIN']).map(
    (host) => `  prosodyctl shell module unload event_pusher ${shellWord(host)}`,
  );

/** The folders that Prosody searches, in order. */
function searched({ installer, pluginPaths, source }: ProsodyConfiguration): string[] {
  const folders = [...(installer === undefined ? [] : [installer]), ...pluginPaths, path.join(source, 'modules')];
  return [...new Set(folders.map((folder) => path.resolve(folder)))];
}

/**
 * The folder that already has the adapter, or the first one for an administrator's modules. Not the installer's, where
 * Prosody logs an error for modules that LuaRocks didn't install, and not the package's, which an upgrade replaces.
 */
function chooseFolder(config: ProsodyConfiguration): string {
  const { pluginPaths, installer, source } = config;
  const own = pluginPaths
    .map((folder) => path.resolve(folder))
    .filter((folder) => folder !== installer && !`${folder}/`.startsWith(`${source}/`))
    .filter((folder) => path.basename(folder) !== 'custom_plugins' && !(existsSync(folder) && isPackaged(folder)));
  const [had] = copiesIn(own);
  return had ? path.dirname(had.path) : (own.find((folder) => existsSync(folder)) ?? own[0] ?? LOCAL_MODULES);
}

/** Copies of the adapter in modules folders: a folder, or the single file of release 0.1.0. */
function copiesIn(folders: readonly string[]): Copy[] {
  return folders.flatMap((folder) =>
    [path.join(folder, MODULE), path.join(folder, `${MODULE}.lua`)]
      .filter((entry) => existsSync(entry))
      .map((entry) => ({ path: entry, version: entry.endsWith('.lua') ? '0.1.0' : versionOf(entry, PACKAGED) })),
  );
}
