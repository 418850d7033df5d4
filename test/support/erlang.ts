/** Erlang modules compiled once for all test files, in `.cache/erlang/`: compiling the adapter takes seconds. */
import { execFile, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const CACHE = join(import.meta.dirname, '../../.cache/erlang');

/** Other processes wait for the one that compiles. */
const COMPILE =
  '[ -d "$0" ] || { rm -rf "$0.new" && mkdir "$0.new" && erlc -o "$0.new" -pa "$0.new" "$@" && mv "$0.new" "$0"; }';

/**
 * Returns a folder with these modules, compiled by the installed Erlang.
 *
 * @param sources in the order of compilation: a behaviour before the modules that implement it
 * @param path folders with modules that these need
 */
export async function compileErlang(sources: readonly string[], path: readonly string[] = []): Promise<string> {
  const { stderr: version } = spawnSync('erl', ['+V'], { encoding: 'utf8' });
  const digest = createHash('sha256').update(JSON.stringify([version, sources, path]));
  for (const source of sources) digest.update(readFileSync(source));
  const folder = join(CACHE, digest.digest('hex').slice(0, 16));
  mkdirSync(CACHE, { recursive: true });
  const args = ['-Werror', ...path.flatMap((each) => ['-pa', each]), ...sources];
  await run('flock', [join(CACHE, 'lock'), 'sh', '-c', COMPILE, folder, ...args]);
  return folder;
}
