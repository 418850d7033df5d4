/** Puts an adapter where its server looks for modules, and says what belongs into the configurations on both sides. */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadConfig, type PusherConfig } from '../config/load.ts';
import { messageOf, PusherError } from '../errors.ts';
import { tapUrl } from './adapter-check.ts';

export type AdapterName = 'prosody' | 'ejabberd';
export const isAdapterName = (name: string): name is AdapterName => name === 'prosody' || name === 'ejabberd';

const ADAPTERS = fileURLToPath(new URL('../../adapters', import.meta.url));
const DEFAULT_URL = 'http://127.0.0.1:5290/v1/events';

/**
 * Installs; answers the lines to print.
 * @throws PusherError ADAPTER_INSTALL when the server can't say where it looks, or the folder can't be written
 */
export function adapterInstall(server: AdapterName, options: { config: string; to?: string }): string[] {
  const configured = tapOf(options.config);
  const { lines, tap } =
    server === 'prosody' ? installProsody(options.to, configured) : installEjabberd(options.to, configured);
  if (tap.known)
    return [...lines, '', `The secret is that of ${options.config}. Afterwards: xmpp-event-pusher adapter check`];
  return [
    ...lines,
    '',
    `Write into ${options.config} of the daemon, so that it knows the secret:`,
    '',
    '  [tap.http]',
    `    secret = "${tap.secret}"`,
    '',
    'Afterwards: xmpp-event-pusher adapter check',
  ];
}

interface Tap {
  readonly url: string;
  readonly secret: string;
  /** Whether the daemon's configuration has the secret already. */
  readonly known: boolean;
}

function tapOf(file: string): Tap {
  const config = existsSync(file) ? readable(file) : undefined;
  const secret = config?.tap.http.secret;
  const url = config ? tapUrl(config) : DEFAULT_URL;
  if (secret !== undefined) return { url, secret, known: true };
  return { url, secret: randomBytes(24).toString('base64url'), known: false };
}

/** A configuration that is not whole yet must not stop the installation of the adapter. */
function readable(file: string): PusherConfig | undefined {
  try {
    return loadConfig(file);
  } catch (error) {
    process.stderr.write(`${messageOf(error)}\n(a new secret is made)\n`);
    return undefined;
  }
}

/** What to print, and the tap as the adapter is told of it. */
interface Installed {
  readonly lines: string[];
  readonly tap: Tap;
}

function installProsody(to: string | undefined, tap: Tap): Installed {
  const folder = to ?? prosodyFolder();
  copy(path.join(ADAPTERS, 'prosody'), folder, ['mod_event_pusher']);
  // Version 0.1.0 was this file. Prosody prefers the folder, but people would wonder which of them runs.
  rmSync(path.join(folder, 'mod_event_pusher.lua'), { force: true });
  const own =
    to === undefined ? [] : [`  plugin_paths = { "${path.resolve(to)}" }   -- beside those that are there already`];
  const lines = [
    `installed ${path.join(folder, 'mod_event_pusher')}`,
    '',
    'Write into prosody.cfg.lua, above the first VirtualHost or into those that it is for, and restart Prosody:',
    '',
    ...own,
    '  modules_enabled = { "event_pusher" }   -- beside those that are there already',
    `  event_pusher_url = "${tap.url}"`,
    `  event_pusher_secret = "${tap.secret}"`,
  ];
  return { lines, tap };
}

/** Prosody's first folder for modules that is not the one of its package. */
function prosodyFolder(): string {
  const { status, stdout } = spawnSync('prosodyctl', ['about'], { encoding: 'utf8' });
  if (status !== 0) throw noAnswer('prosodyctl about', 'where it looks for modules (plugin_paths in prosody.cfg.lua)');
  const source = /^Source directory:\s*(\S+)/m.exec(stdout)?.[1] ?? '/usr/lib/prosody';
  const section = /^Plugin directories:\n((?: {2}\S.*\n)+)/m.exec(stdout)?.[1] ?? '';
  const folders = section
    .split('\n')
    .map((line) => line.trim().replace(/ - .*$/, ''))
    .filter(Boolean);
  const own = folders.filter((folder) => !folder.startsWith(source));
  const chosen = own.find((folder) => existsSync(folder)) ?? own[0] ?? folders[0];
  if (chosen === undefined)
    throw noAnswer('prosodyctl about', 'where it looks for modules (plugin_paths in prosody.cfg.lua)');
  return chosen;
}

function installEjabberd(to: string | undefined, configured: Tap): Installed {
  const modules = to ?? ejabberdFolder();
  const folder = path.join(modules, 'sources', 'mod_event_pusher');
  const source = path.join(ADAPTERS, 'ejabberd');
  const file = path.join(folder, 'conf', 'mod_event_pusher.yml');
  const before = existsSync(file) ? readFileSync(file, 'utf8') : undefined;
  copy(source, folder, readdirSync(source));
  const secret = /^ *secret: *"([^"]+)"/m.exec(before ?? '')?.[1];
  // An adapter that is there already keeps its secret; a daemon that has none yet is told that one.
  const tap = configured.known || secret === undefined ? configured : { ...configured, secret };
  const options = before ?? `modules:\n  mod_event_pusher:\n    url: "${tap.url}"\n    secret: "${tap.secret}"\n`;
  writeFileSync(file, options);
  // It holds the secret.
  chmodSync(file, 0o640);
  const lines = [
    `installed ${folder}`,
    '',
    before === undefined ? `Its options are in ${file}:` : `Its options in ${file} are left as they were:`,
    '',
    ...options
      .trimEnd()
      .split('\n')
      .map((line) => `  ${line}`),
    '',
    'Load it into the running server (module_upgrade where it is loaded already):',
    '',
    '  ejabberdctl module_install mod_event_pusher',
  ];
  return { lines, tap };
}

/** Where ejabberd keeps contributed modules: CONTRIB_MODULES_PATH of ejabberdctl.cfg, or .ejabberd-modules of its user. */
function ejabberdFolder(): string {
  for (const file of ['/etc/ejabberd/ejabberdctl.cfg', '/opt/ejabberd/conf/ejabberdctl.cfg', '/etc/default/ejabberd']) {
    const set = existsSync(file) && /^\s*CONTRIB_MODULES_PATH=["']?([^"'\n]+)/m.exec(readFileSync(file, 'utf8'))?.[1];
    if (set) return set.trim();
  }
  const { status, stdout } = spawnSync('getent', ['passwd', 'ejabberd'], { encoding: 'utf8' });
  const home = stdout?.split(':')[5];
  if (status !== 0 || !home)
    throw noAnswer('getent passwd ejabberd', 'its CONTRIB_MODULES_PATH (by default .ejabberd-modules of its user)');
  return path.join(home, '.ejabberd-modules');
}

const noAnswer = (command: string, what: string) =>
  new PusherError('ADAPTER_INSTALL', `"${command}" does not answer here: give ${what} with --to`);

/** Copies files into a folder, which is made if need be; they belong to whoever owns the folder that was there. */
function copy(from: string, folder: string, names: readonly string[]): void {
  try {
    const { uid, gid } = ownerOf(folder);
    // Each folder that is made on the way belongs to that owner too.
    const made = mkdirSync(folder, { recursive: true });
    if (made !== undefined && process.getuid?.() === 0) chownAll(made, uid, gid);
    for (const name of names) cpSync(path.join(from, name), path.join(folder, name), { recursive: true });
    if (process.getuid?.() === 0) for (const name of names) chownAll(path.join(folder, name), uid, gid);
  } catch (error) {
    throw new PusherError('ADAPTER_INSTALL', `can't write ${folder}: ${messageOf(error)}`, error);
  }
}

function ownerOf(folder: string): { uid: number; gid: number } {
  return existsSync(folder) ? statSync(folder) : ownerOf(path.dirname(path.resolve(folder)));
}

function chownAll(entry: string, uid: number, gid: number): void {
  chownSync(entry, uid, gid);
  if (statSync(entry).isDirectory()) for (const name of readdirSync(entry)) chownAll(path.join(entry, name), uid, gid);
}
