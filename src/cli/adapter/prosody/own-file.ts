/** The adapter's options in a separate file, if Prosody's configuration includes a folder of such files. */
import { existsSync, readFileSync, renameSync, statSync } from 'node:fs';
import path from 'node:path';
import { PusherError } from '../../../errors.ts';
import { luaString } from '../../../quote.ts';
import { remove, writeSecret } from '../files.ts';
import type { TapAccess } from '../server.ts';
import { type ProsodyConfiguration, readProsody } from './configuration.ts';
import { block } from './printed.ts';

const NAME = 'xmpp-event-pusher.cfg.lua';

/** The file's path; undefined if no folder is included (Debian includes `conf.d/*.cfg.lua`). */
export function ownFileOf({ file }: ProsodyConfiguration): string | undefined {
  const included = /^[ \t]*Include[ \t]*\(?[ \t]*["']([^"'*]*)\*\.cfg\.lua["']/m.exec(readFileSync(file, 'utf8'))?.[1];
  return included === undefined ? undefined : path.resolve(path.dirname(file), included, NAME);
}

/** Prosody's group: that of its configuration, unless everybody may read it. */
function groupOf(file: string): number {
  const { gid, mode } = statSync(file);
  const groups = existsSync('/etc/group') ? readFileSync('/etc/group', 'utf8') : '';
  const prosody = /^prosody:[^:]*:(\d+):/m.exec(groups)?.[1];
  return (mode & 0o004) === 0 || prosody === undefined ? gid : Number(prosody);
}

/** The configuration with the new file; undefined if Prosody rejects it. */
function readAgain(file: string): ProsodyConfiguration | undefined {
  try {
    return readProsody(file);
  } catch (error) {
    if (error instanceof PusherError) return undefined;
    throw error;
  }
}

export interface OwnFile {
  readonly file: string;
  /** The hosts that it configures. */
  readonly hosts: readonly string[];
  /** The whole configuration with it. */
  readonly config: ProsodyConfiguration;
}

/**
 * Writes the file for each host without options of the adapter elsewhere. If Prosody doesn't read it as intended, the
 * new file is removed, and the lines must be added by hand.
 */
export function writeOwnFile(found: ProsodyConfiguration, folder: string, tap: TapAccess): OwnFile | undefined {
  const own = ownFileOf(found);
  if (own === undefined || !existsSync(path.dirname(own))) return undefined;
  const former = `${own}.old`;
  const restore = () => {
    remove(own);
    if (existsSync(former)) renameSync(former, own);
    return undefined;
  };
  if (existsSync(own)) renameSync(own, former);
  const without = existsSync(former) ? readAgain(found.file) : found;
  if (!without) return restore();
  const hosts = without.hosts.filter(({ enabled, disabled, own_list }) => !enabled && !disabled && !own_list);
  const isSearched = without.pluginPaths.some((each) => path.resolve(each) === folder);
  const isAdded = !isSearched && without.pluginPaths.length === 0;
  const lines = [
    '-- Written by xmpp-event-pusher. Changes here are lost when the adapter is installed again.',
    ...(isAdded ? [`plugin_paths = { ${luaString(folder)} }`] : []),
    ...hosts.flatMap((host) => block(host, tap, true)),
  ];
  if (hosts.length > 0) writeSecret(own, `${lines.join('\n')}\n`, groupOf(found.file));
  const names = hosts.map(({ name }) => name);
  const config = names.length > 0 ? readAgain(found.file) : undefined;
  const isRead = names.every((name) => {
    const host = config?.hosts.find((each) => each.name === name);
    return host?.enabled === true && host.login && host.url === tap.url && host.secret === tap.secret;
  });
  if (config && isRead) {
    remove(former);
    return { file: own, hosts: names, config };
  }
  return restore();
}
