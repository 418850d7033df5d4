/**
 * Debian releases in folders of their own, made by debootstrap from this machine's mirror and entered by chroot. Each
 * command there has namespaces of its own, so its mounts end with it. Needs root.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { install } from './install-servers.ts';

const CHECKOUT = fileURLToPath(new URL('..', import.meta.url));
const FOLDER = path.join(CHECKOUT, '.cache/debian');

/** What a command of a fresh system finds in its environment. */
export const ENVIRONMENT = {
  HOME: '/root',
  LANG: 'C.UTF-8',
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
};

const say = (text: string) => process.stderr.write(`${text}\n`);

/** Runs a command whose mounts and processes are gone when it is; answers what it printed, where that is not shown. */
export function apart(command: readonly string[], { shown }: { shown: boolean }): { ok: boolean; output: string } {
  const { status, stdout, error } = spawnSync('unshare', ['--mount', '--pid', '--fork', '--kill-child', ...command], {
    env: ENVIRONMENT,
    stdio: ['ignore', shown ? 'inherit' : 'pipe', 'inherit'],
    encoding: 'utf8',
  });
  if (error) throw error;
  return { ok: status === 0, output: stdout ?? '' };
}

/** Where this machine gets Debian's packages from. */
export function mirror(): string {
  const args = ['indextargets', '--format', '$(REPO_URI)', 'Origin: Debian', 'Label: Debian', 'Identifier: Packages'];
  const uri = spawnSync('apt-get', args, { encoding: 'utf8' }).stdout?.split('\n')[0];
  if (!uri) throw new Error("this machine's apt knows no mirror of Debian (was `apt-get update` run?)");
  return uri;
}

/** How this machine's apt reaches its mirror: through which proxy, and whether an index may be old. */
function settings(): string {
  const { stdout } = spawnSync('apt-config', ['dump', '--no-empty', 'Acquire'], { encoding: 'utf8' });
  return (stdout ?? '')
    .split('\n')
    .filter((line) => /^Acquire::(https?|Check-)/.test(line))
    .join('\n');
}

/** Makes the base system of a release in a folder, with what its apt needs on this machine. */
export function bootstrap(release: string, folder: string, include: readonly string[] = []): void {
  if (process.getuid?.() !== 0) throw new Error('only root can make and enter the folder of a release');
  const { missing, why } = install(['debootstrap', 'iproute'], say);
  if (missing.length > 0) throw new Error(`${missing.join(', ')} is missing: ${why}`);
  say(`making ${folder} …`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(path.dirname(folder), { recursive: true });
  const included = include.length > 0 ? [`--include=${include.join(',')}`] : [];
  // One script serves all releases, also those that this debootstrap doesn't know yet.
  const command = ['debootstrap', '--variant=minbase', ...included, release, folder, mirror(), 'sid'];
  if (!apart(command, { shown: false }).ok) throw new Error(`debootstrap could not make ${folder}`);
  writeFileSync(path.join(folder, 'etc/apt/apt.conf.d/machine'), settings());
  copyFileSync('/etc/hosts', path.join(folder, 'etc/hosts'));
}

export interface Debian extends Disposable {
  readonly root: string;
  /**
   * Runs a script of its shell, with processes and mounts that end with it.
   * @param options.network whether it sees this machine's network; by default it has none but a loopback of its own
   * @param options.checkout whether this checkout is there as `/checkout`, to read
   */
  run(script: string, options?: { network?: boolean; checkout?: boolean }): { status: number | null; output: string };
  /** The command line, on this machine, of a command in there: the same process, with this machine's network. */
  command(...words: string[]): string[];
}

// The shell stays as the first process, to reap what is left to it: hence the exit, or it would become the command.
const RUN = `
set -e
root=$1 network=$2 checkout=$3 script=$4
[ "$network" = true ] || ip link set lo up
mount -t proc proc "$root/proc"
if [ -n "$checkout" ]; then
  mkdir -p "$root/checkout"
  mount --bind "$checkout" "$root/checkout"
  mount -o remount,bind,ro "$root/checkout"
fi
chroot "$root" sh -c "$script"
exit
`;

const BECOME = 'set -e; root=$1; shift; mount -t proc proc "$root/proc"; exec chroot "$root" "$@"';

/**
 * A fresh base system of a release, gone when it is disposed of: the copy of one that is made once, under `.cache/`.
 * @param include packages beside those of the base
 */
export function debian(release: string, include: readonly string[] = []): Debian {
  const kept = keep(release, include);
  const root = mkdtempSync(path.join(tmpdir(), `${release}-`));
  copy(kept, root);
  return inside(root);
}

/** The folder with that system, made where it is missing. */
function keep(release: string, include: readonly string[]): string {
  const kept = path.join(FOLDER, [release, ...include].join('+'));
  if (existsSync(kept)) return kept;
  const partial = `${kept}.partial`;
  if (include.length === 0) bootstrap(release, partial);
  else {
    const base = keep(release, []);
    rmSync(partial, { recursive: true, force: true });
    mkdirSync(partial);
    copy(base, partial);
    say(`adding ${include.join(', ')} to ${partial} …`);
    const { status, output } = inside(partial).run(addition(include), { network: true });
    if (status !== 0) throw new Error(`${include.join(', ')} could not be installed:\n${output}`);
  }
  renameSync(partial, kept);
  return kept;
}

/** Starts nothing while it installs: that system is only being made. */
const addition = (packages: readonly string[]): string => `
  printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq && apt-get install -y -qq --no-install-recommends ${packages.join(' ')} || exit 1
  rm /usr/sbin/policy-rc.d
  apt-get clean`;

function copy(from: string, to: string): void {
  const { status, stderr } = spawnSync('cp', ['-a', `${from}/.`, to], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${from} could not be copied: ${stderr}`);
}

function inside(root: string): Debian {
  return {
    root,
    run(script, { network = false, checkout = false } = {}) {
      const namespaces = ['--mount', '--pid', '--fork', '--kill-child', ...(network ? [] : ['--net'])];
      const args = [
        ...namespaces,
        'sh',
        '-c',
        RUN,
        'sh',
        root,
        String(network),
        checkout ? CHECKOUT : '',
        `exec 2>&1\n${script}`,
      ];
      const { status, stdout, error } = spawnSync('unshare', args, {
        env: ENVIRONMENT,
        stdio: ['ignore', 'pipe', 'inherit'],
        encoding: 'utf8',
        maxBuffer: 64 << 20,
      });
      if (error) throw error;
      return { status, output: stdout };
    },
    command: (...words) => ['unshare', '--mount', 'sh', '-c', BECOME, 'sh', root, ...words],
    [Symbol.dispose]: () => rmSync(root, { recursive: true, force: true }),
  };
}
