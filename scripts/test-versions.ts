/**
 * Runs the tests of adapters and RabbitMQ against the servers of other Debian releases.
 *
 * Each release is a folder under `.cache/versions/`, created once. The tests run inside it by chroot: with that
 * release's servers, and this checkout read-only, with an empty `.cache`. Needs root.
 *
 * Usage: npm run test:versions [-- RELEASE …] [--only FILE …] [--fresh]
 */
import { appendFileSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { apart, bootstrap, mirror } from './debian.ts';

const HELP = `npm run test:versions -- [RELEASE …] [options]

  RELEASE      a release of Debian or its backports, such as trixie or trixie-backports
  --only FILE  this test file instead of all of them
  --fresh      makes the releases' folders anew
  --help       this
`;

const RELEASES = ['bookworm', 'bookworm-backports', 'trixie', 'trixie-backports', 'forky'];
const TESTS = ['test/adapters/*.test.ts', 'test/end-to-end/*.test.ts', 'test/rabbitmq.suite.ts'];
const CHECKOUT = fileURLToPath(new URL('..', import.meta.url));
const FOLDER = path.join(CHECKOUT, '.cache/versions');

const say = (text: string) => process.stdout.write(`${text}\n`);

// The shell stays the first process to reap servers that tests leave behind. Without the `exit` it would exec the
// command.
const ENTER = `
set -e
root=$1 checkout=$2; shift 2
mkdir -p "$root/checkout"
mount -t proc proc "$root/proc"
mount --bind "$checkout" "$root/checkout"
mount -o remount,bind,ro "$root/checkout"
mount -t tmpfs tmpfs "$root/checkout/.cache"
chroot "$root" sh -c 'cd /checkout && PATH=$PWD/node_modules/.bin:$PATH && exec "$@"' sh "$@"
exit
`;

const inside = (root: string, command: readonly string[], options: { shown: boolean }) =>
  apart(['sh', '-c', ENTER, 'sh', root, CHECKOUT, ...command], options);

/** Returns the folder of that release, after creating it if necessary. */
function prepare(name: string, fresh: boolean): string {
  const root = path.join(FOLDER, name);
  if (fresh) rmSync(root, { recursive: true, force: true });
  if (existsSync(root)) return root;
  const partial = `${root}.partial`;
  const base = name.replace('-backports', '');
  // Node.js needs libatomic.
  bootstrap(base, partial, ['libatomic1']);
  if (base !== name) {
    appendFileSync(path.join(partial, 'etc/apt/sources.list'), `deb ${mirror()} ${name} main\n`);
    const preference = `Package: *\nPin: release n=${name}\nPin-Priority: 500\n`;
    writeFileSync(path.join(partial, 'etc/apt/preferences.d/backports'), preference);
  }
  const servers = [
    'node',
    'scripts/install-servers.ts',
    'prosody',
    'ejabberd',
    'rabbitmq',
    'erlang-dialyzer',
    'openssl',
  ];
  if (!inside(partial, servers, { shown: true }).ok) throw new Error(`the servers of ${name} could not be installed`);
  renameSync(partial, root);
  return root;
}

const ASK_VERSIONS = `
prosody=$(prosodyctl about | sed -n 's/^Prosody \\([0-9]\\)/\\1/p')
lua=$($(sed -n '1s/.* //p' /usr/bin/prosody) -v | cut -d ' ' -f 2)
ejabberd=$(dpkg-query -W -f '\${Version}' ejabberd)
rabbitmq=$(dpkg-query -W -f '\${Version}' rabbitmq-server)
otp=$(cat /usr/lib/erlang/releases/*/OTP_VERSION)
echo "Prosody $prosody on Lua $lua, ejabberd \${ejabberd%%-*}, RabbitMQ \${rabbitmq%%-*} on OTP $otp"
`;

/** Runs the tests on a release; returns a summary. */
function test(root: string, files: readonly string[]): { ok: boolean; summary: string } {
  const name = path.basename(root);
  const servers = inside(root, ['sh', '-c', ASK_VERSIONS], { shown: false }).output.trim();
  say(`\n${name}: ${servers}`);
  const results = '/tmp/results.tap';
  const shown = ['--test-reporter=spec', '--test-reporter-destination=stdout'];
  const counted = ['--test-reporter=tap', `--test-reporter-destination=${results}`];
  const command = ['node', '--test', '--test-concurrency=2', '--test-timeout=300000', '--test-force-exit'];
  // Removes an earlier run's results, in case this run fails early.
  writeFileSync(path.join(root, results), '');
  const { ok } = inside(root, [...command, ...shown, ...counted, ...files], { shown: true });
  const counts = readFileSync(path.join(root, results), 'utf8').matchAll(/^# (pass|fail|cancelled) (\d+)$/gm);
  const summary = [...counts].map(([, what, count]) => `${what} ${count}`).join(', ') || 'the tests did not run';
  return { ok, summary: `${name}: ${servers}: ${summary}` };
}

function main(): number {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      only: { type: 'string', multiple: true, default: TESTS },
      fresh: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const releases = positionals.length > 0 ? positionals : RELEASES;
  const roots = releases.map((name) => prepare(name, values.fresh));
  const results = roots.map((root) => test(root, values.only));
  say(`\n${results.map(({ summary }) => summary).join('\n')}`);
  return results.every(({ ok }) => ok) ? 0 : 1;
}

process.exitCode = main();
