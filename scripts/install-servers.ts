/**
 * Installs with apt the programs that the tests and the demo need, if they are missing. Does not start or enable their
 * services: the tests start their own, with their own ports and folders.
 *
 * Usage: node scripts/install-servers.ts prosody ejabberd …
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, globSync } from 'node:fs';
import path from 'node:path';

interface Server {
  /** A command that exists if it is installed. */
  readonly command: string;
  /** Files that must exist as well, as patterns. */
  readonly files?: readonly string[];
  readonly packages: readonly string[];
}

const SERVERS = {
  prosody: { command: 'prosody', packages: ['prosody', 'prosody-modules'] },
  ejabberd: { command: 'ejabberdctl', packages: ['ejabberd'] },
  rabbitmq: { command: 'rabbitmqctl', packages: ['rabbitmq-server'] },
  // Chromium without what draws windows, which takes half the CPU time.
  chromium: { command: 'chromium-headless-shell', packages: ['chromium-headless-shell'] },
  prometheus: { command: 'promtool', packages: ['prometheus'] },
  systemd: { command: 'systemd-analyze', packages: ['systemd'] },
  iproute: { command: 'ip', packages: ['iproute2'] },
  debootstrap: { command: 'debootstrap', packages: ['debootstrap'] },
  // Includes EUnit and OTP's headers, which the tests need.
  'erlang-dialyzer': {
    command: 'dialyzer',
    files: ['/usr/lib/erlang/lib/eunit-*/ebin/eunit.beam', '/usr/lib/erlang/lib/eunit-*/include/eunit.hrl'],
    packages: ['erlang-dialyzer', 'erlang-eunit', 'erlang-dev'],
  },
  'lua-check': { command: 'luacheck', packages: ['lua-check'] },
  jsonschema: { command: 'jsonschema', packages: ['python3-jsonschema'] },
  // Its applets are the commands of an Alpine image.
  busybox: { command: 'busybox', packages: ['busybox'] },
  kubectl: { command: 'kubectl', packages: ['kubernetes-client'] },
  zsh: { command: 'zsh', packages: ['zsh'] },
  fish: { command: 'fish', packages: ['fish'] },
  'dpkg-deb': { command: 'dpkg-deb', packages: ['dpkg'] },
  lintian: { command: 'lintian', packages: ['lintian'] },
  binutils: { command: 'strip', packages: ['binutils'] },
  'binutils-arm64': { command: 'aarch64-linux-gnu-strip', packages: ['binutils-aarch64-linux-gnu'] },
  sqlite3: { command: 'sqlite3', packages: ['sqlite3'] },
  openssl: { command: 'openssl', packages: ['openssl'] },
} satisfies Record<string, Server>;

export type ServerName = keyof typeof SERVERS;

/** Debian installs some commands in /usr/sbin, which is not on every user's PATH. */
const FOLDERS = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/usr/local/sbin'];

export function isInstalled(name: ServerName): boolean {
  const { command, files = [] }: Server = SERVERS[name];
  if (files.some((pattern) => globSync(pattern).length === 0)) return false;
  return FOLDERS.some((folder) => {
    try {
      accessSync(path.join(folder, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/**
 * Installs missing programs. Returns those that are still missing, and why.
 * @param say called before a step that may take a minute
 */
export function install(
  names: readonly ServerName[],
  say: (text: string) => void,
): { missing: ServerName[]; why: string } {
  const wanted = names.filter((name) => !isInstalled(name));
  if (wanted.length === 0) return { missing: [], why: '' };
  const asRoot = rootCommand();
  if (!asRoot) return { missing: wanted, why: 'neither root nor sudo without a password is to be had' };
  if (spawnSync('apt-get', ['--version']).status !== 0) return { missing: wanted, why: 'this system has no apt-get' };
  say(`installing ${wanted.join(', ')} with apt-get …`);
  const packages = wanted.flatMap((name) => SERVERS[name].packages);
  const [command, ...args] = [...asRoot, 'sh', '-c', SCRIPT, 'install', packages.join(' ')];
  const { status, stdout, stderr } = spawnSync(command as string, args, { encoding: 'utf8' });
  const missing = names.filter((name) => !isInstalled(name));
  return { missing, why: status === 0 ? '' : `apt-get failed:\n${stdout.slice(-2_000)}\n${stderr.slice(-2_000)}` };
}

function rootCommand(): string[] | undefined {
  if (process.getuid?.() === 0) return [];
  return spawnSync('sudo', ['-n', 'true']).status === 0 ? ['sudo', '-n'] : undefined;
}

// A package's script starts its service unless policy-rc.d forbids it (exit status 101). At a first installation it
// always enables it, for systemd and other init systems, even if none is running. So starting is forbidden meanwhile,
// and services that were not enabled before are disabled afterwards, including those of dependencies. Only the services
// that systemd itself needs to boot stay enabled. An existing policy-rc.d is restored; one left by a
// killed run is recognized by its mark and deleted. dash runs the EXIT trap on exit, but not when killed by a signal:
// hence the second trap.
const SCRIPT = `
policy=/usr/sbin/policy-rc.d
mark='# xmpp-event-pusher: only while it installs packages'
is_ours() { grep -qsxF "$mark" $policy; }
restore() {
  if is_ours; then rm -f $policy; fi
  if [ -e $policy.before ] && [ ! -e $policy ]; then mv $policy.before $policy; fi
}
trap restore EXIT
trap 'exit 130' INT TERM HUP
if [ -e $policy ] && ! is_ours; then mv $policy $policy.before; fi
printf '#!/bin/sh\\n%s\\nexit 101\\n' "$mark" > $policy && chmod 755 $policy
export DEBIAN_FRONTEND=noninteractive
enabled() {
  find /etc/systemd/system /etc/rc[2-5].d -type l '(' -path '*.wants/*' -o -name 'S*' ')' 2>/dev/null
}
before=$(enabled)
apt-get update -qq && apt-get install -y -qq --no-install-recommends $1 || exit 1
enabled | grep -vxF -e "$before" | while read -r link; do
  unit=\${link##*/}
  case $link in
  /etc/rc*) service=\${unit#S??} ;;
  *) service=\${unit%.*} ;;
  esac
  case $service in
  getty@* | remote-fs | systemd-*) continue ;;
  esac
  case $link in
  /etc/rc*) update-rc.d $service disable >/dev/null 2>&1 ;;
  *) deb-systemd-helper disable $unit >/dev/null 2>&1 || systemctl disable $unit >/dev/null 2>&1 ;;
  esac || echo "$service could not be disabled" >&2
done
`;

if (import.meta.main) {
  const names = process.argv.slice(2);
  const unknown = names.filter((name) => !Object.hasOwn(SERVERS, name));
  if (unknown.length > 0 || names.length === 0) {
    process.stderr.write(`usage: install-servers.ts ${Object.keys(SERVERS).join('|')} …\n`);
    process.exit(2);
  }
  const { missing, why } = install(names as ServerName[], (text) => process.stderr.write(`${text}\n`));
  for (const name of missing)
    process.stderr.write(`${name} is missing and could not be installed: ${why || 'apt-get did not bring it'}\n`);
  if (missing.length > 0) process.exit(1);
}
