/**
 * A user's first hour with Debian and its XMPP server: the commands of the quick starts, typed into a fresh system one
 * after another, until a notification is read from a queue. `npm run test:first-hour`.
 *
 * The system, its packages, the XMPP server with its default configuration, our package and the client are real.
 * `aws.ts` stands in for AWS and its command line, a script for systemd, starting what the unit says.
 */
import assert from 'node:assert/strict';
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
import { after, before, describe, it } from 'node:test';
import { type Debian, debian } from '../../scripts/debian.ts';
import { makeCertificate } from '../support/certificate.ts';
import { ROOT } from '../support/deploy.ts';

const NODE = '/checkout/node_modules/.bin/node';
/** AWS's names in the documents' region. */
const NAMES = ['sns', 'sqs', 'sts'].map((service) => `${service}.eu-west-1.amazonaws.com`);

/** The commands in a document's blocks, each with the number of its block. */
function typed(document: string): { block: number; line: string }[] {
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
case "$*" in
'restart prosody')
  pid=$(cat /run/prosody/prosody.pid)
  kill "$pid"
  while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
  /etc/init.d/prosody start
  ;;
'enable --now xmpp-event-pusher')
  user=$(sed -n 's/^User=//p' $unit)
  set -a
  . /etc/xmpp-event-pusher/environment
  set +a
  cd "$(sed -n 's/^WorkingDirectory=//p' $unit)"
  setpriv --reuid="$user" --regid="$user" --init-groups sh -c "exec $(sed -n 's/^ExecStart=//p' $unit)" >/tmp/daemon.log 2>&1 &
  until [ -S /var/lib/xmpp-event-pusher/outbox.db.sock ]; do sleep 0.2; kill -0 $! || { cat /tmp/daemon.log; exit 1; }; done
  ;;
*) echo "systemctl $*: not in here" >&2; exit 1 ;;
esac
`;

/** The server before the first command: with a certificate, and running. */
const STARTS = {
  prosody: `install -g prosody -m 640 /aws/cert.pem /etc/prosody/certs/localhost.crt
    install -g prosody -m 640 /aws/key.pem /etc/prosody/certs/localhost.key
    /etc/init.d/prosody start`,
  ejabberd: 'install -d -o ejabberd /run/ejabberd; ejabberdctl start; ejabberdctl started',
};
const REGISTERS = {
  prosody: 'prosodyctl register alice localhost pencil',
  ejabberd: 'ejabberdctl register alice localhost pencil',
};

let folder: string;
let deb: string;
before(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'first-hour-'));
  execFileSync(process.execPath, [path.join(ROOT, 'scripts/deb.ts'), '--to', folder], { stdio: ['ignore', 'pipe', 2] });
  const { version } = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8'));
  deb = path.join(folder, `xmpp-event-pusher_${version}_amd64.deb`);
});
after(() => rmSync(folder, { recursive: true, force: true }));

for (const server of ['prosody', 'ejabberd'] as const)
  describe(`the first hour with Debian's own ${server}`, () => {
    let system: Debian;
    const document = `docs/quick-start-${server}.md`;
    before(async () => {
      system = debian('bookworm', ['libatomic1', server]);
      const at = (name: string) => path.join(system.root, name);
      copyFileSync(deb, at(`root/${path.basename(deb)}`));
      const { cert, key } = await makeCertificate(
        folder,
        [...NAMES, 'localhost'].map((name) => `DNS:${name}`).join(','),
      );
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
      awscli(at('root/awscli.deb'));
    });
    after(() => system[Symbol.dispose]());

    /** A package of this name, for the document's apt; its command is the stand-in. */
    function awscli(file: string): void {
      const stage = path.join(folder, 'awscli');
      mkdirSync(path.join(stage, 'DEBIAN'), { recursive: true });
      const control =
        'Package: awscli\nVersion: 99\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: a stand-in\n';
      writeFileSync(path.join(stage, 'DEBIAN/control'), control);
      execFileSync('dpkg-deb', ['--root-owner-group', '--build', stage, file], { stdio: 'ignore' });
    }

    it('brings a notification to a queue with at most six typed lines', () => {
      const lines = typed(document);
      const [steps, reading, looking] = [0, 1, 2].map((block) => lines.filter((each) => each.block === block));
      assert.ok(steps && reading && looking);
      assert.ok(steps.length + reading.length <= 6, `${steps.length + reading.length} lines`);
      const each = (some: readonly { line: string }[]) =>
        some.map(({ line }) => `echo '$ ${line.replaceAll("'", "'\\''")}'\n${line}`).join('\n');
      const { status, output } = system.run(
        `set -e
        cd /root
        export NODE_EXTRA_CA_CERTS=/aws/cert.pem
        dpkg -i awscli.deb >/dev/null
        ${NODE} /checkout/test/debian/aws.ts serve /aws/cert.pem /aws/key.pem >/tmp/aws.log 2>&1 &
        until grep -qs ready /tmp/aws.log; do sleep 0.2; kill -0 $! || { cat /tmp/aws.log; exit 1; }; done
        ${STARTS[server]}
        ${REGISTERS[server]}
        # What a person types.
        ${each(steps)}
        NODE_TLS_REJECT_UNAUTHORIZED=0 ${NODE} --no-warnings /checkout/test/debian/client.ts ${server} >/tmp/client.log 2>&1 &
        until grep -qs 'logged in' /tmp/client.log; do sleep 0.2; kill -0 $! || { cat /tmp/client.log; exit 1; }; done
        ${each(reading)}
        stat -c '%a %U:%G' /etc/xmpp-event-pusher/environment
        ${each(looking).replace(/\btail$/m, 'tail & sleep 3; kill $!')}`,
        { checkout: true },
      );
      assert.equal(status, 0, output);
      assert.match(output, /^640 root:xmpp-event-pusher$/m, 'secrets are for the daemon alone');
      // Within SNS's envelope, which the command line prints as JSON once more.
      assert.ok(output.replaceAll('\\', '').includes('{"user_id":"alice@localhost","present":true}'), output);
    });
  });
