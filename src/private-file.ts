/** Files for the daemon's user alone. */
import { closeSync, fchownSync, openSync, statSync } from 'node:fs';
import path from 'node:path';

/**
 * Creates a file (mode 0600) and opens it to write. One that root creates in another user's folder belongs to that user:
 * who once starts the daemon by hand as root would otherwise keep the service from its own files.
 * @throws EEXIST where something has that name, also a link
 */
export function createPrivate(file: string): number {
  const handle = openSync(file, 'wx', 0o600);
  try {
    const folder = statSync(path.dirname(file));
    if (process.getuid?.() === 0 && folder.uid !== 0) fchownSync(handle, folder.uid, folder.gid);
    return handle;
  } catch (error) {
    closeSync(handle);
    throw error;
  }
}

/** The first of a folder's files that belongs to another user than the folder; undefined where none is seen. */
export function foreignFile(
  folder: string,
  names: readonly string[],
): { file: string; uid: number; folderUid: number } | undefined {
  try {
    const { uid: folderUid } = statSync(folder);
    for (const file of names.map((name) => path.join(folder, name))) {
      const uid = statSync(file, { throwIfNoEntry: false })?.uid ?? folderUid;
      if (uid !== folderUid) return { file, uid, folderUid };
    }
    return undefined;
  } catch {
    return undefined; // A folder that can't be looked into: that is another fault, and reported as such.
  }
}
