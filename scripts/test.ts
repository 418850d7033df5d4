/**
 * Runs all tests, those with real servers first: they take longest, and one that started last would run alone at the
 * end. `node --test` would start them in the order of their names.
 *
 * Usage: npm test [-- FILE …]
 */
import { globSync } from 'node:fs';
import path from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** In the order of their start. A file counts where it is named first. */
const ORDER = [
  'test/rabbitmq.test.ts',
  'test/adapters/**/*.test.ts',
  'test/end-to-end/**/*.test.ts',
  'test/browser/**/*.test.ts',
  'test/**/*.test.ts',
  'src/**/*.test.ts',
];

/** More than processors: tests with servers wait for them. */
const AT_ONCE = 4;
const TIMEOUT_MS = 300_000;

const given = process.argv.slice(2);
const patterns = given.length > 0 ? given : ORDER;
const files = [...new Set(patterns.flatMap((pattern) => globSync(pattern, { cwd: ROOT }).toSorted()))];
if (files.length === 0) {
  process.stderr.write(`no file is named ${patterns.join(' or ')}\n`);
  process.exit(1);
}
process.stdout.write(`${files.length} files; results come in the order of their start\n`);
run({ files: files.map((file) => path.join(ROOT, file)), concurrency: AT_ONCE, timeout: TIMEOUT_MS })
  .on('test:fail', () => {
    process.exitCode = 1;
  })
  .compose(new spec())
  .pipe(process.stdout);
