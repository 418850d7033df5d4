/**
 * Runs the unit tests on the oldest Node.js that `engines` allows: its latest patch release, installed by npm under
 * `.cache/node24/`.
 *
 * Usage: npm run test:node24 [-- FILE …]
 */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const CHECKOUT = fileURLToPath(new URL('..', import.meta.url));
const FOLDER = path.join(CHECKOUT, '.cache/node24');
/** The package for this platform; npm's package `node` would replace the newer `node` command. */
const PACKAGE = `node-${process.platform}-${process.arch}`;

function run(command: string, args: readonly string[]): void {
  const { status, error } = spawnSync(command, args, { cwd: CHECKOUT, stdio: 'inherit' });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

run('npm', [
  'install',
  '--prefix',
  FOLDER,
  '--no-save',
  '--no-audit',
  '--no-fund',
  '--loglevel=error',
  `${PACKAGE}@24`,
]);
const node = path.join(FOLDER, 'node_modules', PACKAGE, 'bin/node');
const files = process.argv.slice(2);
run(node, ['--test', '--test-concurrency=4', ...(files.length > 0 ? files : ['src/**/*.test.ts'])]);
