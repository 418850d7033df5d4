/**
 * Type-checks the Erlang adapters with dialyzer (Debian package `erlang-dialyzer`).
 *
 * The analysis of OTP is cached in `.cache/dialyzer/`; creating it takes some seconds.
 *
 * Usage: npm run lint:erlang
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, globSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const FOLDER = path.join(ROOT, '.cache/dialyzer');

/**
 * OTP applications of the modules that ours call. The XMPP servers' functions stay unknown: they differ between versions.
 */
const APPS = ['erts', 'kernel', 'stdlib', 'crypto', 'public_key', 'ssl'];

/**
 * Beside the modules that ours call, those whose types they use. Analysing whole applications takes eight times as long
 * and finds nothing more.
 */
const TYPES = ['gen', 'gen_sctp', 'gen_udp', 'proc_lib', 'socket', 'sys'];

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

/** Prints OTP's release and the applications' folders. */
const LOOK = `
  Folders = [code:lib_dir(App) || App <- [${APPS}]],
  io:format("~s~n~s", [erlang:system_info(otp_release), lists:join("\n", Folders)]),
  halt().`;

/** Names of the modules that ours call, those of the XMPP servers included. */
function called(): string[] {
  const text = SOURCES.flatMap((folder) => globSync(path.join(ROOT, folder, '*.erl'))).map((file) =>
    readFileSync(file, 'utf8'),
  );
  return [...text.join('\n').matchAll(/\b([a-z][a-z0-9_]*):[a-z]/g)].map(([, name]) => name!);
}

const [version = '', ...folders] = run('erl', ['-noshell', '-eval', LOOK]).split('\n');
const modules = [...new Set([...called(), ...TYPES])].toSorted();
const beams = modules
  .flatMap((name) => folders.map((folder) => path.join(folder, 'ebin', `${name}.beam`)))
  .filter((file) => existsSync(file));
const digest = createHash('sha256').update(beams.join('\n')).digest('hex').slice(0, 8);
const plt = path.join(FOLDER, `otp-${version}-${digest}.plt`);
if (!existsSync(plt)) {
  process.stdout.write(`making ${path.relative(ROOT, plt)} …\n`);
  mkdirSync(FOLDER, { recursive: true });
  // Exit status 2 is fine: some functions belong to modules that are not included.
  const partial = `${plt}.partial`;
  spawnSync('dialyzer', ['--build_plt', '--output_plt', partial, ...beams], { cwd: ROOT, stdio: 'ignore' });
  renameSync(partial, plt);
}
const warnings = ['-Wunmatched_returns', '-Werror_handling', '-Wno_undefined_callbacks'];
run('dialyzer', ['--quiet', '--plt', plt, ...warnings, '--src', '-r', ...SOURCES]);
