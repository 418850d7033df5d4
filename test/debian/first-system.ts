/**
 * What a user's first hour takes place in: a fresh Debian with our package, and with stand-ins for AWS, for its command
 * line, and for systemd.
 */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import { type Debian, debian } from '../../scripts/debian.ts';
import { makeCertificate } from '../support/certificate.ts';
import { ROOT } from '../support/deploy.ts';

export const NODE = '/checkout/node_modules/.bin/node';
/** AWS's names in the documents' region. */
const NAMES = ['sns', 'sqs', 'sts'].map((service) => `${service}.eu-west-1.amazonaws.com`);

/** The commands in a document's blocks, each with the number of its block. */
export function typed(document: string): { block: number; line: string }[] {
  const blocks = [...readFileSync(path.join(ROOT, document), 'utf8').matchAll(/^```sh\n([\s\S]*?)^```$/gm)];
  return blocks.flatMap(([, text = ''], block) =>
    text
      .trim()
      .split('\n')
      .map((line) => ({ block, line })),
  );
}

const SYSTEMCTL = `#!/bin/sh
# No systemd runs in here: this does what the unit says.
set -e
unit=/usr/lib/systemd/system/xmpp-event-pusher.service
pid_file=/run/xmpp-event-pusher.pid
start() {
  user=$(sed -n 's/^User=//p' $unit)
  set -a
  . /etc/xmpp-event-pusher/environment
  set +a
  cd "$(sed -n 's/^WorkingDirectory=//p' $unit)"
  setpriv --reuid="$user" --regid="$user" --init-groups sh -c "exec $(sed -n 's/^ExecStart=//p' $unit)" >>/tmp/daemon.log 2>&1 &
  echo $! >$pid_file
  until [ -S /var/lib/xmpp-event-pusher/outbox.db.sock ]; do sleep 0.2; kill -0 $! || { cat /tmp/daemon.log; exit 1; }; done
}
stop() {
  pid=$(cat $pid_file)
  kill "$pid"
  while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
}
case "$*" in
'restart prosody')
  pid=$(cat /run/prosody/prosody.pid)
  kill "$pid"
  while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
  /etc/init.d/prosody start
  ;;
'restart mongooseim')
  if [ -s /run/mongooseim.pid ]; then
    pid=$(cat /run/mongooseim.pid)
    kill "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
  fi
  cd /usr/lib/mongooseim
  erl -noinput -config /etc/mongooseim/app.config -args_file /etc/mongooseim/vm.args -pa standin -run mongoose_standin main 5280 >/tmp/mongooseim.log 2>&1 &
  echo $! >/run/mongooseim.pid
  ${NODE} /checkout/test/debian/mongooseim.ts modules
  ;;
'restart ejabberd')
  ejabberdctl stop && ejabberdctl stopped && ejabberdctl start && ejabberdctl started
  ;;
'enable --now xmpp-event-pusher') start ;;
'restart xmpp-event-pusher') stop && start ;;
'disable --now xmpp-event-pusher') stop ;;
*) echo "systemctl $*: not in here" >&2; exit 1 ;;
esac
`;

/** Commands to run one after another, each printed before it runs. */
export const echoed = (lines: readonly string[]): string =>
  lines.map((line) => `echo '$ ${line.replaceAll("'", "'\\''")}'\n${line}`).join('\n');

/** Starts the stand-in for AWS, in a script of the system's shell. */
export const SERVE_AWS = `
  export NODE_EXTRA_CA_CERTS=/aws/cert.pem
  dpkg -i awscli.deb >/dev/null
  ${NODE} /checkout/test/debian/aws.ts serve /aws/cert.pem /aws/key.pem >/tmp/aws.log 2>&1 &
  until grep -qs ready /tmp/aws.log; do sleep 0.2; kill -0 $! || { cat /tmp/aws.log; exit 1; }; done
`;

export interface Built extends Disposable {
  /** The Debian package. */
  readonly deb: string;
  /** For files of the test. */
  readonly folder: string;
}

/** Makes our package, unless the variable `DEB` names one that is made already. */
export function buildPackage(): Built {
  const folder = mkdtempSync(path.join(tmpdir(), 'first-hour-'));
  const { DEB: made } = process.env;
  if (made) return { folder, deb: made, [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }) };
  execFileSync(process.execPath, [path.join(ROOT, 'scripts/deb.ts'), '--to', folder], { stdio: ['ignore', 'pipe', 2] });
  const { version } = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8'));
  return {
    folder,
    deb: path.join(folder, `xmpp-event-pusher_${version}_amd64.deb`),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** The package as a later release, under the name that the documents have. */
export function laterRelease({ deb, folder }: Built, system: Debian): void {
  const unpacked = path.join(folder, 'later');
  execFileSync('dpkg-deb', ['-R', deb, unpacked]);
  const control = path.join(unpacked, 'DEBIAN/control');
  writeFileSync(control, readFileSync(control, 'utf8').replace(/^Version: .*$/m, 'Version: 99.0.0'));
  const file = path.join(system.root, 'root', path.basename(deb));
  execFileSync('dpkg-deb', ['-Znone', '--build', unpacked, file], { stdio: 'ignore' });
  rmSync(unpacked, { recursive: true });
}

/** A fresh system with the package in root's home, and the stand-ins. */
export async function firstSystem({ deb, folder }: Built, include: readonly string[]): Promise<Debian> {
  const system = debian('bookworm', ['libatomic1', ...include]);
  const at = (name: string) => path.join(system.root, name);
  copyFileSync(deb, at(`root/${path.basename(deb)}`));
  const names = [...NAMES, 'localhost'].map((name) => `DNS:${name}`);
  const { cert, key } = await makeCertificate(folder, names.join(','));
  // Answers apt's question.
  writeFileSync(at('etc/apt/apt.conf.d/yes'), 'APT::Get::Assume-Yes "true";\n');
  mkdirSync(at('aws'));
  writeFileSync(at('aws/cert.pem'), cert);
  writeFileSync(at('aws/key.pem'), key);
  appendFileSync(at('etc/hosts'), `\n127.0.0.1 ${NAMES.join(' ')} ${hostname()}\n`);
  for (const [name, text] of [
    ['aws', `#!/bin/sh\nexec ${NODE} /checkout/test/debian/aws.ts "$@"\n`],
    ['systemctl', SYSTEMCTL],
  ] as const) {
    writeFileSync(at(`usr/local/bin/${name}`), text);
    chmodSync(at(`usr/local/bin/${name}`), 0o755);
  }
  awscli(folder, at('root/awscli.deb'));
  return system;
}

/** A package of this name, for the document's apt; its command is the stand-in. */
function awscli(folder: string, file: string): void {
  const stage = path.join(folder, 'awscli');
  mkdirSync(path.join(stage, 'DEBIAN'), { recursive: true });
  const control =
    'Package: awscli\nVersion: 99\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: a stand-in\n';
  writeFileSync(path.join(stage, 'DEBIAN/control'), control);
  execFileSync('dpkg-deb', ['--root-owner-group', '--build', stage, file], { stdio: 'ignore' });
}
