/**
 * The two files that `init` writes.
 *
 * Maintained invariants:
 * - Files are replaced atomically: written beside their place and renamed. A symbolic link stays, and its target is
 *   replaced.
 * - Only the owner and the daemon's group can ever read a file with secrets, even while it is written.
 */
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { parseEnvFile } from '../../config/env-file.ts';
import { messageOf, PusherError } from '../../errors.ts';
import { envString } from '../../quote.ts';

/** The daemon's user and group, where a package or an administrator created them. */
const USER = 'xmpp-event-pusher';

/** The id of the daemon's group on this machine, if this process may give files to it. */
function daemonGroup(): number | undefined {
  if (process.getuid?.() !== 0 || !existsSync('/etc/group')) return undefined;
  const line = new RegExp(`^${USER}:[^:]*:(\\d+):`, 'm').exec(readFileSync('/etc/group', 'utf8'));
  return line ? Number(line[1]) : undefined;
}

/** Writes a file for the daemon to read. @throws PusherError CONFIG_UNREADABLE when it can't be written */
export function writeWhole(file: string, text: string, { secret }: { secret: boolean }): void {
  const target = followed(file);
  const next = `${target}.new`;
  const group = daemonGroup();
  const mode = group === undefined ? (secret ? 0o600 : 0o644) : 0o640;
  try {
    mkdirSync(path.dirname(target), { recursive: true });
    rmSync(next, { force: true });
    writeFileSync(next, '', { mode: 0o600, flag: 'wx' });
    const opened = openSync(next, 'r+');
    try {
      if (group !== undefined) chownSync(next, 0, group);
      writeFileSync(opened, text);
      fsyncSync(opened);
    } finally {
      closeSync(opened);
    }
    chmodSync(next, mode);
    renameSync(next, target);
  } catch (error) {
    discard(next);
    throw new PusherError('CONFIG_UNREADABLE', `can't write ${file}: ${messageOf(error)}`, error);
  }
}

/** The file that a path leads to, through symbolic links; it need not exist. */
export function followed(file: string): string {
  return isLink(file) ? followed(path.resolve(path.dirname(file), readlinkSync(file))) : file;
}

function isLink(file: string): boolean {
  try {
    return lstatSync(file).isSymbolicLink();
  } catch {
    return false; // Nothing is there; writing it reports any other fault.
  }
}

/**
 * The text of a file; undefined where there is none.
 * @throws PusherError CONFIG_UNREADABLE for a folder, or where this user may not read it
 */
export function readExisting(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    const hint = code === 'EACCES' ? '; run the command as root, with sudo' : '';
    throw new PusherError('CONFIG_UNREADABLE', `can't read ${file}: ${messageOf(error)}${hint}`, error);
  }
}

/** Removes what a failed write left. */
function discard(next: string): void {
  try {
    rmSync(next, { force: true });
  } catch {
    // In a folder that can't be written, nothing was left.
  }
}

/** Backs a file up under the first free name; returns that name. */
export function keepCopy(file: string): string {
  let copy = `${file}.old`;
  for (let n = 2; existsSync(copy); n++) copy = `${file}.old.${n}`;
  try {
    renameSync(file, copy);
  } catch (error) {
    throw new PusherError('CONFIG_UNREADABLE', `can't keep ${file} as ${copy}: ${messageOf(error)}`, error);
  }
  return copy;
}

/** A secret for a header. */
export const freshSecret = (): string => randomBytes(24).toString('base64url');

export interface EnvChanges {
  readonly text: string;
  /** Variables whose values were replaced. */
  readonly replaced: readonly string[];
  /** Variables whose old values were kept. */
  readonly kept: readonly string[];
}

/**
 * Adds these variables to the text of an environment file; everything else stays.
 * @param text its current text
 * @param given values that replace those in the file
 * @param fresh values for variables that it lacks
 */
export function withVariables(
  text: string,
  given: Readonly<Record<string, string>>,
  fresh: Readonly<Record<string, string>>,
): EnvChanges {
  const { variables } = parseEnvFile(text);
  const kept = Object.keys(fresh).filter((name) => variables.get(name));
  const wanted = { ...Object.fromEntries(Object.entries(fresh).filter(([name]) => !kept.includes(name))), ...given };
  const replaced = Object.keys(given).filter((name) => variables.get(name) && variables.get(name) !== given[name]);
  let next = text === '' || text.endsWith('\n') ? text : `${text}\n`;
  for (const [name, value] of Object.entries(wanted)) {
    if (variables.get(name) === value) continue;
    const line = `${name}=${envString(value)}`;
    // The last assignment counts, so an earlier value that spans lines can stay.
    const single = new RegExp(`^[ \\t]*${name}[ \\t]*=[^"'\\\\\\n]*$`, 'm');
    next =
      single.test(next) && next.match(new RegExp(`^[ \\t]*${name}[ \\t]*=`, 'gm'))?.length === 1
        ? next.replace(single, () => line)
        : `${next}${line}\n`;
  }
  return { text: next, replaced, kept };
}
