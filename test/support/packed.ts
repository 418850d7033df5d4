/** The npm package as users get it: `npm pack`, unpacked. Packed once for each process, as packing empties `dist`. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import { mkdtemp, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface Packed {
  /** The archive that npm would publish. */
  readonly tarball: string;
  /** The folder of its content. */
  readonly content: string;
}

let packed: Promise<Packed> | undefined;

/** The package of this checkout. Every suite that uses it runs in the process of test/package.test.ts. */
export function packedOnce(): Promise<Packed> {
  packed ??= pack();
  return packed;
}

async function pack(): Promise<Packed> {
  const folder = await mkdtemp(path.join(tmpdir(), 'packed-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  await run('npm', ['pack', '--pack-destination', folder], { cwd: ROOT });
  const name = (await readdir(folder)).find((file) => file.endsWith('.tgz'));
  assert.ok(name, `npm pack left no archive in ${folder}`);
  const tarball = path.join(folder, name);
  await run('tar', ['xzf', tarball], { cwd: folder });
  return { tarball, content: path.join(folder, 'package') };
}
