/** Folders of adapters on a disk: copied whole, compared, removed. */
import {
  chmodSync,
  chownSync,
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { messageOf, PusherError } from '../../errors.ts';
import { version } from '../../version.ts';

/** The package's folder of adapters, with a folder for each. */
export const ADAPTERS = fileURLToPath(new URL('../../../adapters', import.meta.url));

/** Whether the PATH has a program of that name. */
export const onPath = (program: string): boolean =>
  (process.env.PATH ?? '').split(':').some((folder) => folder !== '' && existsSync(path.join(folder, program)));

/**
 * Distinguishes what this user may not read from what does not exist.
 * @throws PusherError ADAPTER_INSTALL when it may not be read
 */
export function assertReadable(entry: string): void {
  try {
    closeSync(openSync(entry, 'r'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EACCES') return;
    throw new PusherError('ADAPTER_INSTALL', `this user may not read ${entry}: run this as root`, error);
  }
}

/** The file beside a copied adapter that names its release. */
const VERSION_FILE = 'VERSION';

/** A folder of the package, without some of its entries. */
export interface Packaged {
  readonly folder: string;
  readonly without: readonly string[];
}

/**
 * Replaces a folder as a whole: the old one stays until the copy is complete, then it is removed with any extra files.
 * The copy belongs to the owner of the folder around it, and everybody may read it, because servers run as other
 * users.
 * @throws PusherError ADAPTER_INSTALL when the folder can't be written
 */
export function replaceFolder({ folder, without }: Packaged, to: string): void {
  if (existsSync(path.dirname(to)) && isPackaged(path.dirname(to)))
    throw new PusherError('ADAPTER_INSTALL', `${to} is this package's own folder: there is nothing to copy`);
  const next = `${to}.new`;
  const former = `${to}.old`;
  writing(to, () => {
    makeFolder(path.dirname(to));
    for (const leftover of [next, former]) rmSync(leftover, { recursive: true, force: true });
    try {
      cpSync(folder, next, { recursive: true });
      for (const name of without) rmSync(path.join(next, name), { recursive: true, force: true });
      writeFileSync(path.join(next, VERSION_FILE), `${version}\n`);
      hand(next, statSync(path.dirname(to)));
    } catch (error) {
      // Half a copy, as of a full disk, must not be taken for a module.
      rmSync(next, { recursive: true, force: true });
      throw error;
    }
    if (existsSync(to)) renameSync(to, former);
    renameSync(next, to);
    rmSync(former, { recursive: true, force: true });
  });
}

/**
 * Writes a file that holds a secret, for its owner and group only.
 * @param gid the server's group, if this process may change a file's group
 */
export function writeSecret(file: string, text: string, gid: number | undefined): void {
  writing(file, () => {
    makeFolder(path.dirname(file));
    writeFileSync(file, text, { mode: 0o640 });
    chmodSync(file, 0o640);
    if (gid !== undefined && process.getuid?.() === 0) chownSync(file, statSync(file).uid, gid);
  });
}

/** Removes a file or folder; false if it didn't exist. Never removes a folder of this package through a link. */
export function remove(entry: string): boolean {
  if (!existsSync(entry) || isPackaged(entry)) return false;
  writing(entry, () => rmSync(entry, { recursive: true }));
  return true;
}

/** Whether the path is the package's own copy. */
export const isPackaged = (entry: string): boolean =>
  `${realpathSync(entry)}/`.startsWith(`${realpathSync(ADAPTERS)}/`);

/** The release of a copied folder; "unknown" for a manual copy that doesn't match this release. */
export function versionOf(copy: string, { folder, without }: Packaged): string {
  const names = readdirSync(folder).filter((name) => !without.includes(name));
  if (names.every((name) => same(path.join(copy, name), path.join(folder, name)))) return version;
  const stamp = path.join(copy, VERSION_FILE);
  const stamped = existsSync(stamp) ? readFileSync(stamp, 'utf8').trim() : undefined;
  return stamped === undefined ? 'unknown' : stamped === version ? `${version}, modified` : stamped;
}

/** Whether a copy equals the file, or contains every file of the folder unchanged. */
function same(copy: string, from: string): boolean {
  if (!existsSync(copy)) return false;
  if (!statSync(from).isDirectory()) return readFileSync(copy).equals(readFileSync(from));
  return readdirSync(from).every((name) => same(path.join(copy, name), path.join(from, name)));
}

function writing(what: string, write: () => void): void {
  try {
    write();
  } catch (error) {
    throw new PusherError('ADAPTER_INSTALL', `can't write ${what}: ${messageOf(error)}`, error);
  }
}

/** Creates a folder and its parents, owned by the owner of the nearest existing one. */
function makeFolder(folder: string): void {
  const made = mkdirSync(folder, { recursive: true });
  if (made !== undefined) hand(made, statSync(path.dirname(made)));
}

/** Changes the owner of a file or a whole folder, and makes it readable for everybody, whatever the umask. */
function hand(entry: string, owner: { uid: number; gid: number }): void {
  const isFolder = statSync(entry).isDirectory();
  if (process.getuid?.() === 0) chownSync(entry, owner.uid, owner.gid);
  chmodSync(entry, isFolder ? 0o755 : 0o644);
  if (isFolder) for (const name of readdirSync(entry)) hand(path.join(entry, name), owner);
}
