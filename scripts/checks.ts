/**
 * Runs the checks that need no test beside each other, because most of them use one processor. Shows the output of each
 * whole, as soon as it ends.
 *
 * Usage: node scripts/checks.ts
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';

/** npm's scripts, the longest first. */
const CHECKS = ['lint:erlang', 'types', 'lint'];

async function check(name: string): Promise<boolean> {
  const began = performance.now();
  const child = spawn('sh', ['-c', 'exec npm run --silent "$0" 2>&1', name], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [output, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  const seconds = ((performance.now() - began) / 1_000).toFixed(1);
  process.stdout.write(`${code === 0 ? '✔' : '✖'} ${name} (${seconds} s)\n${output}`);
  return code === 0;
}

const passed = await Promise.all(CHECKS.map(check));
process.exitCode = passed.every(Boolean) ? 0 : 1;
