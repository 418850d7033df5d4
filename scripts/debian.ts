/**
 * Debian releases in folders, created by debootstrap from this machine's mirror and entered with chroot. Each command
 * runs in its own namespaces, so its mounts end with it. Needs root.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { install } from './install-servers.ts';

const CHECKOUT = fileURLToPath(new URL('..', import.meta.url));
const FOLDER = path.join(CHECKOUT, '.cache/debian');

/** Environment of commands in a fresh system. */
export const ENVIRONMENT = {
  HOME: '/root',
  LANG: 'C.UTF-8',
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
};

const say = (text: string) => process.stderr.write(`${text}\n`);

/**
 * Runs a command in its own namespaces: its mounts and processes end with it. Returns its output unless it is shown.
 */
export function apart(command: readonly string[], { shown }: { shown: boolean }): { ok: boolean; output: string } {
  const { status, stdout, error } = spawnSync('unshare', ['--mount', '--pid', '--fork', '--kill-child', ...command], {
    env: ENVIRONMENT,
    stdio: ['ignore', shown ? 'inherit' : 'pipe', 'inherit'],
    encoding: 'utf8',
  });
  if (error) throw error;
  return { ok: status === 0, output: stdout ?? '' };
}

/** The mirror from which this machine installs Debian packages. */
export function mirror(): string {
  const args = ['indextargets', '--format', '$(REPO_URI)', 'Origin: Debian', 'Label: Debian', 'Identifier: Packages'];
  const uri = spawnSync('apt-get', args, { encoding: 'utf8' }).stdout?.split('\n')[0];
  if (!uri) throw new Error("this machine's apt knows no mirror of Debian (was `apt-get update` run?)");
  return uri;
}

/** This machine's apt settings for the mirror, such as a proxy and the accepted age of an index. */
function settings(): string {
  const { stdout } = spawnSync('apt-config', ['dump', '--no-empty', 'Acquire'], { encoding: 'utf8' });
  return (stdout ?? '')
    .split('\n')
    .filter((line) => /^Acquire::(https?|Check-)/.test(line))
    .join('\n');
}

/** Creates a release's base system in a folder, with this machine's apt settings. */
export function bootstrap(release: string, folder: string, include: readonly string[] = []): void {
  if (process.getuid?.() !== 0) throw new Error('only root can make and enter the folder of a release');
  const { missing, why } = install(['debootstrap', 'iproute'], say);
  if (missing.length > 0) throw new Error(`${missing.join(', ')} is missing: ${why}`);
  say(`making ${folder} …`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(path.dirname(folder), { recursive: true });
  const included = include.length > 0 ? [`--include=${include.join(',')}`] : [];
  // One script for all releases, including those that this debootstrap does not know yet.
  const command = ['debootstrap', '--variant=minbase', ...included, release, folder, mirror(), 'sid'];
  if (!apart(command, { shown: false }).ok) throw new Error(`debootstrap could not make ${folder}`);
  writeFileSync(path.join(folder, 'etc/apt/apt.conf.d/machine'), settings());
  copyFileSync('/etc/hosts', path.join(folder, 'etc/hosts'));
}

export interface Debian extends Disposable {
  readonly root: string;
  /**
   * Runs a shell script; its processes and mounts end with it.
   * @param options.network whether it uses this machine's network; by default it only has its own loopback
   * @param options.checkout whether this checkout is mounted read-only at `/checkout`
   */
  run(script: string, options?: { network?: boolean; checkout?: boolean }): { status: number | null; output: string };
  /** The command line that runs a command inside, as the same process and with this machine's network. */
  command(...words: string[]): string[];
}

// The shell stays the first process to reap orphans. Without the `exit` it would exec the command.
const RUN = `
set -e
root=$1 network=$2 checkout=$3 script=$4
[ "$network" = true ] || ip link set lo up
mount -t proc proc "$root/proc"
# As on a machine or in a container: pseudo terminals, and shared memory.
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
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
 * A fresh base system of a release, deleted when disposed of: a copy of one created once under `.cache/`.
 * @param include additional packages
 */
export function debian(release: string, include: readonly string[] = []): Debian {
  const kept = keep(release, include);
  const root = mkdtempSync(path.join(tmpdir(), `${release}-`));
  copy(kept, root);
  return inside(root);
}

/** Returns that system's folder, after creating it if necessary. */
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

/** Prevents services from starting during the installation. */
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
