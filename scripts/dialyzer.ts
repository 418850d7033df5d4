/**
 * Type-checks the Erlang adapters with dialyzer (Debian package `erlang-dialyzer`).
 *
 * The analysis of OTP is cached in `.cache/dialyzer/`; creating it takes a minute or two.
 *
 * Usage: npm run lint:erlang
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const FOLDER = path.join(ROOT, '.cache/dialyzer');

/**
 * OTP applications that the shared modules call. The XMPP servers' functions stay unknown: they differ between
 * versions.
 */
const APPS = ['erts', 'kernel', 'stdlib', 'crypto', 'public_key', 'ssl'];

/** MongooseIM's adapter shares most of ejabberd's modules. */
const SOURCES = ['adapters/ejabberd/src', 'adapters/mongooseim/src'];

function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: ROOT, encoding: 'utf8' });
  if (error) throw error;
  if (status !== 0) {
    process.stderr.write(`${stdout}${stderr}`);
    process.exit(1);
  }
  return stdout;
}

const version = run('erl', ['-noshell', '-eval', 'io:format("~s", [erlang:system_info(otp_release)]), halt().']);
const plt = path.join(FOLDER, `otp-${version.trim()}.plt`);
if (!existsSync(plt)) {
  process.stdout.write(`making ${path.relative(ROOT, plt)} …\n`);
  mkdirSync(FOLDER, { recursive: true });
  // Exit status 2 is fine: some functions belong to applications that are not included.
  const partial = `${plt}.partial`;
  spawnSync('dialyzer', ['--build_plt', '--output_plt', partial, '--apps', ...APPS], { cwd: ROOT, stdio: 'ignore' });
  renameSync(partial, plt);
}
const warnings = ['-Wunmatched_returns', '-Werror_handling', '-Wno_undefined_callbacks'];
run('dialyzer', ['--quiet', '--plt', plt, ...warnings, '--src', '-r', ...SOURCES]);
