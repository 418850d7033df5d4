/** Compiles the package into `dist/`: TypeScript by tsc, and beside it the console, bundled. */
import { spawnSync } from 'node:child_process';
import { cpSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { compile } from '../src/cli/adapter/mongooseim/beams.ts';
import { bundleConsole } from './bundle-console.ts';

const at = (path: string) => fileURLToPath(new URL(`../${path}`, import.meta.url));

// What is left of an earlier build would travel with the package.
rmSync(at('dist'), { recursive: true, force: true });
const { status } = spawnSync('tsc', ['-p', at('tsconfig.build.json')], { stdio: 'inherit' });
if (status !== 0) process.exit(1);
await bundleConsole(at('dist/ops/console'));

// MongooseIM's adapter, for machines without an Erlang compiler: where this one has it.
const beams = compile('erlc');
if (typeof beams === 'string') process.stderr.write(`without compiled modules for MongooseIM: erlc: ${beams}\n`);
else {
  cpSync(beams.folder, at('dist/mongooseim-ebin'), { recursive: true });
  beams[Symbol.dispose]();
}
