/**
 * The Debian package in fresh base systems: installed without a network, run, upgraded, removed, purged.
 *
 * `npm run test:deb`. Its systems stay under `.cache/debian/`.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type Debian, debian } from '../../scripts/debian.ts';
import { install } from '../../scripts/install-servers.ts';
import { version } from '../../src/version.ts';
import { freePorts, launch, type Process, until } from '../support/process.ts';
import { type Sns, startSns } from '../support/sns.ts';

const DEB = fileURLToPath(new URL('../../scripts/deb.ts', import.meta.url));
const MEGABYTE = 1e6;
const NEXT = '99.0.0';
/** The topics of the package's default configuration. */
const TOPICS = ['user_presence_updated', 'user_message_sent', 'user_messagegroup_sent'];
const SECRET = 'tap-secret-of-the-package';

let folder: string;

/** Builds the package; returns its file. */
function make(architecture: string): string {
  execFileSync(process.execPath, [DEB, '--to', folder, '--arch', architecture], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return path.join(folder, `xmpp-event-pusher_${version}_${architecture}.deb`);
}

/** The same package as a later release, with another default configuration. */
function later(file: string): string {
  const unpacked = path.join(folder, 'later');
  execFileSync('dpkg-deb', ['-R', file, unpacked]);
  const control = path.join(unpacked, 'DEBIAN/control');
  writeFileSync(control, readFileSync(control, 'utf8').replace(/^Version: .*$/m, `Version: ${NEXT}`));
  appendFileSync(path.join(unpacked, 'etc/xmpp-event-pusher/pusher.toml'), '\n# as a later release has it\n');
  const made = path.join(folder, 'later.deb');
  execFileSync('dpkg-deb', ['-Znone', '--build', unpacked, made], { stdio: 'ignore' });
  return made;
}

before(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'deb-'));
});
after(() => rmSync(folder, { recursive: true, force: true }));

describe('the Debian package', () => {
  let file: string;
  let next: string;
  before(() => {
    file = make('amd64');
    next = later(file);
  });

  it('the package is below 60 MB', () => {
    const { size } = statSync(file);
    assert.ok(size < 60 * MEGABYTE, `${size / MEGABYTE} MB`);
  });

  it('lintian finds no error in the package', () => {
    assert.deepEqual(install(['lintian'], () => undefined).missing, []);
    const { status, stdout } = spawnSync('lintian', ['--allow-root', '--fail-on', 'error', file], { encoding: 'utf8' });
    assert.equal(status, 0, stdout);
  });

  for (const release of ['bookworm', 'trixie'])
    describe(`on ${release}`, () => {
      let system: Debian;
      let sns: Sns;
      let isDown = false;
      let tap: number;
      let daemon: Process | undefined;
      before(async () => {
        system = debian(release, ['libatomic1']);
        copyFileSync(file, path.join(system.root, 'first.deb'));
        copyFileSync(next, path.join(system.root, 'next.deb'));
        sns = await startSns(TOPICS, (app) => {
          app.addHook('onRequest', async (_, reply) => (isDown ? reply.code(503).send() : undefined));
        });
      });
      after(async () => {
        await daemon?.end('SIGKILL');
        await sns[Symbol.asyncDispose]();
        system[Symbol.dispose]();
      });

      const at = (name: string) => path.join(system.root, name);
      const run = (script: string) => {
        const { status, output } = system.run(`set -e\n${script}`);
        assert.equal(status, 0, output);
        return output;
      };

      /** Like the unit: as its own user, with the variables of the file. */
      async function start(): Promise<Process> {
        const line = 'set -a; . /etc/xmpp-event-pusher/environment; exec "$@"';
        const user = ['setpriv', '--reuid=xmpp-event-pusher', '--regid=xmpp-event-pusher', '--init-groups'];
        const program = ['xmpp-event-pusher', 'run', '--config', '/etc/xmpp-event-pusher/pusher.toml'];
        const [command = '', ...args] = system.command(...user, 'sh', '-c', line, 'sh', ...program);
        daemon = await launch(command, args);
        const started = daemon;
        await until('the tap', async () => !started.running || (await post([])).status === 200);
        assert.ok(started.running, started.output());
        return started;
      }

      const post = (events: unknown[], seq = 1) =>
        fetch(`http://127.0.0.1:${tap}/v1/events`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', authorization: `Bearer ${SECRET}` },
          body: JSON.stringify({ source: 's', epoch: 'e', first_seq: seq, events }),
        });
      const event = (body: string) => ({
        kind: 'message',
        type: 'chat',
        at: Date.now(),
        host: 'localhost',
        from: 'alice@localhost/a',
        to: 'bob@localhost',
        body,
      });

      it('installs without a network, starts nothing, and protects secrets', () => {
        // As an installation by hand leaves it, with a dynamic user.
        run(`install -d -o 61500 -m 700 /var/lib/private/xmpp-event-pusher
          ln -s private/xmpp-event-pusher /var/lib/xmpp-event-pusher
          install -o 61500 -m 600 /dev/null /var/lib/xmpp-event-pusher/outbox.db`);
        // As a former operator's membership leaves it.
        run('groupadd --system xmpp-event-pusher && usermod -aG xmpp-event-pusher nobody');
        const output = run('dpkg -i /first.deb');
        assert.equal(run('stat -c %a:%U /var/lib/xmpp-event-pusher/outbox.db'), '600:xmpp-event-pusher\n');
        // What systemd does at the first start.
        run('rm /var/lib/xmpp-event-pusher; mv /var/lib/private/xmpp-event-pusher /var/lib; rmdir /var/lib/private');
        assert.match(output, /next are `xmpp-event-pusher init` and `systemctl enable --now xmpp-event-pusher`/);
        const listed = run(`stat -c '%a %U:%G %n' /etc/xmpp-event-pusher/* /var/lib/xmpp-event-pusher
          find /etc/systemd -name 'xmpp-event-pusher*'`);
        assert.deepEqual(listed.trim().split('\n'), [
          '640 root:xmpp-event-pusher /etc/xmpp-event-pusher/environment',
          '644 root:root /etc/xmpp-event-pusher/pusher.toml',
          '700 xmpp-event-pusher:xmpp-event-pusher /var/lib/xmpp-event-pusher',
        ]);
        assert.equal(run('xmpp-event-pusher --version'), `${version}\n`);
        const forgotten = run(`mkdir -m 777 /home/someone; cd /home/someone
          setpriv --reuid=nobody --regid=nogroup --clear-groups xmpp-event-pusher init --yes --role --region eu-west-1 \\
            --account 123456789012 --no-topics --no-adapter || true
          ls; rm -r /home/someone`);
        assert.match(
          forgotten,
          /^note .* for the service, whose configuration is \/etc\/\S+, run it as root, with sudo\n/,
        );
        assert.match(forgotten, /^environment\npusher\.toml$/m);
      });

      it('includes adapters, manual page, completions and the unit', () => {
        run(`xmpp-event-pusher adapter install prosody --url http://127.0.0.1:1/v1/events --secret ${SECRET} --to /p
          test -e /p/mod_event_pusher/mod_event_pusher.lua
          test -e /usr/lib/xmpp-event-pusher/adapters/ejabberd/src/mod_event_pusher.erl
          test -e /usr/lib/xmpp-event-pusher/adapters/mongooseim/src/mod_xmpp_event_pusher.erl
          test -e /usr/share/man/man1/xmpp-event-pusher.1.gz
          test -e /usr/share/bash-completion/completions/xmpp-event-pusher
          test -e /usr/share/zsh/vendor-completions/_xmpp-event-pusher
          test -e /usr/share/fish/vendor_completions.d/xmpp-event-pusher.fish`);
        const unit = readFileSync(at('usr/lib/systemd/system/xmpp-event-pusher.service'), 'utf8');
        assert.match(unit, /\nUser=xmpp-event-pusher\nGroup=xmpp-event-pusher\n/);
        assert.doesNotMatch(unit, /DynamicUser/);
      });

      it('runs as its own user, and publishes', async () => {
        const [tapPort, admin] = (await freePorts(2)) as [number, number];
        tap = tapPort;
        const config = readFileSync(at('etc/xmpp-event-pusher/pusher.toml'), 'utf8')
          .replace('"sns.eu-west-1.amazonaws.com"', `"${sns.url}"`)
          .replace('"123456789012"', `"${sns.accountId}"`)
          .replace('127.0.0.1:5290', `127.0.0.1:${tap}`)
          .replace('127.0.0.1:5291', `127.0.0.1:${admin}`);
        writeFileSync(at('etc/xmpp-event-pusher/pusher.toml'), config);
        writeFileSync(
          at('etc/xmpp-event-pusher/environment'),
          `AWS_ACCESS_KEY_ID=test\nAWS_SECRET_ACCESS_KEY=test\nTAP_SECRET=${SECRET}\nADMIN_TOKEN=admin-token-of-it\n`,
        );
        const running = await start();
        const status = readFileSync(`/proc/${running.pid}/status`, 'utf8');
        assert.doesNotMatch(status, /^Uid:\s+0\b/m);
        assert.equal((await post([event('one')])).status, 200);
        const [received] = await sns.receive(1);
        assert.deepEqual(received?.body, {
          to_user_id: 'bob@localhost',
          message: 'one',
          from_user_id: 'alice@localhost',
        });
        await running.end('SIGTERM');
      });

      it('an upgrade keeps configuration and outbox', async () => {
        isDown = true;
        const before = await start();
        assert.equal((await post([event('one'), event('two')])).status, 200);
        await before.end('SIGTERM');
        const kept = readFileSync(at('etc/xmpp-event-pusher/pusher.toml'), 'utf8');
        run('DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-confold -i /next.deb');
        assert.equal(readFileSync(at('etc/xmpp-event-pusher/pusher.toml'), 'utf8'), kept);
        assert.match(run('stat -c %a:%G /etc/xmpp-event-pusher/environment'), /^640:xmpp-event-pusher$/m);
        isDown = false;
        const running = await start();
        const received = await sns.receive(2);
        assert.equal(received[1]?.body.message, 'two');
        await running.end('SIGTERM');
      });

      it('a removal keeps configuration and outbox, and a new installation uses them', () => {
        run('dpkg -r xmpp-event-pusher');
        assert.deepEqual(readdirSync(at('etc/xmpp-event-pusher')).toSorted(), [
          'environment',
          'pusher.toml',
          'pusher.toml.dpkg-dist',
        ]);
        run('test -e /var/lib/xmpp-event-pusher/outbox.db && ! test -e /usr/lib/xmpp-event-pusher');
        // The user gets another number.
        run('userdel xmpp-event-pusher; useradd --system another');
        run('dpkg --force-confold -i /next.deb');
        assert.equal(run('stat -c %U /var/lib/xmpp-event-pusher/outbox.db'), 'xmpp-event-pusher\n');
        assert.match(readFileSync(at('etc/xmpp-event-pusher/environment'), 'utf8'), /ADMIN_TOKEN=admin-token-of-it/);
      });

      it('a purge deletes everything', () => {
        // As `init --overwrite` keeps them.
        run('touch /etc/xmpp-event-pusher/pusher.toml.old /etc/xmpp-event-pusher/pusher.toml.old.2');
        const output = run('dpkg -P xmpp-event-pusher');
        assert.doesNotMatch(output, /warning/i);
        assert.equal(run("find / -xdev -name '*xmpp-event-pusher*' -not -path '/proc/*' -not -path '/var/log/*'"), '');
        assert.equal(run('getent passwd xmpp-event-pusher || getent group xmpp-event-pusher || true'), '');
      });
    });
});

describe('the Debian package for arm64', () => {
  it('the arm64 package differs only in Node.js', () => {
    const file = make('arm64');
    const unpacked = path.join(folder, 'arm64');
    execFileSync('dpkg-deb', ['-R', file, unpacked]);
    assert.match(readFileSync(path.join(unpacked, 'DEBIAN/control'), 'utf8'), /^Architecture: arm64$/m);
    const header = readFileSync(path.join(unpacked, 'usr/lib/xmpp-event-pusher/node/node')).subarray(0, 20);
    // ELF's e_machine: AArch64 (https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html).
    assert.equal(header.readUInt16LE(18), 183);
    assert.ok(statSync(file).size < 60 * MEGABYTE);
  });
});
