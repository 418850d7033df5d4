/** Compiles the package into `dist/`: TypeScript with tsc, and the bundled console. */
import { spawnSync } from 'node:child_process';
import { cpSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { compile } from '../src/cli/adapter/mongooseim/beams.ts';
import { bundleConsole } from './bundle-console.ts';

const at = (path: string) => fileURLToPath(new URL(`../${path}`, import.meta.url));

// Files of an earlier build would end up in the package.
rmSync(at('dist'), { recursive: true, force: true });
const { status, error } = spawnSync(at('node_modules/.bin/tsc'), ['-p', at('tsconfig.build.json')], {
  stdio: 'inherit',
});
if (error) throw error;
if (status !== 0) process.exit(1);
await bundleConsole(at('dist/ops/console'));

// MongooseIM's adapter, compiled for machines without an Erlang compiler if this one has one.
const beams = compile('erlc');
if (typeof beams === 'string') process.stderr.write(`without compiled modules for MongooseIM: erlc: ${beams}\n`);
else {
  cpSync(beams.folder, at('dist/mongooseim-ebin'), { recursive: true });
  beams[Symbol.dispose]();
}
