/**
 * A user's first hour with Debian and its XMPP server: the commands of the quick starts, typed into a fresh system one
 * after another, until a notification is read from a queue. `npm run test:first-hour`.
 *
 * The system, its packages, the XMPP server with its default configuration, our package and the client are real.
 * `aws.ts` stands in for AWS and its command line, a script for systemd, starting what the unit says.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Debian } from '../../scripts/debian.ts';
import { type Built, buildPackage, echoed, firstSystem, laterRelease, NODE, SERVE_AWS, typed } from './first-system.ts';

/** The server before the first command: with a certificate, and running. */
const STARTS = {
  prosody: `install -g prosody -m 640 /aws/cert.pem /etc/prosody/certs/localhost.crt
    install -g prosody -m 640 /aws/key.pem /etc/prosody/certs/localhost.key
    /etc/init.d/prosody start`,
  ejabberd: 'install -d -o ejabberd /run/ejabberd; ejabberdctl start; ejabberdctl started',
};
/** What docs/secrets.md says in sentences, after its commands. */
const TAKES_SECRET = { prosody: 'prosodyctl shell config reload', ejabberd: 'true' };
/** What `adapter install` prints after an upgrade. */
const LOADS = {
  prosody: 'prosodyctl shell config reload; prosodyctl shell module reload event_pusher localhost',
  ejabberd: 'true # it has loaded it itself',
};
/** Logs in, and waits for its notification. */
const LOGS_IN = (server: string) => `
  NODE_TLS_REJECT_UNAUTHORIZED=0 ${NODE} --no-warnings /checkout/test/debian/client.ts ${server} >/tmp/client.log 2>&1 &
  client=$!
  until grep -qs 'logged in' /tmp/client.log; do sleep 0.2; kill -0 $client || { cat /tmp/client.log; exit 1; }; done`;
const REGISTERS = {
  prosody: 'prosodyctl register alice localhost pencil',
  ejabberd: 'ejabberdctl register alice localhost pencil',
};

let built: Built;
before(() => {
  built = buildPackage();
});
after(() => built[Symbol.dispose]());

for (const server of ['prosody', 'ejabberd'] as const)
  describe(`the first hour with Debian's own ${server}`, () => {
    let system: Debian;
    const document = `docs/quick-start-${server}.md`;
    before(async () => {
      system = await firstSystem(built, [server]);
    });
    after(() => system[Symbol.dispose]());

    it('brings a notification to a queue with at most six typed lines', () => {
      const lines = typed(document);
      const [steps, reading, looking] = [0, 1, 2].map((block) => lines.filter((each) => each.block === block));
      assert.ok(steps && reading && looking);
      assert.ok(steps.length + reading.length <= 6, `${steps.length + reading.length} lines`);
      const each = (some: readonly { line: string }[]) => echoed(some.map(({ line }) => line));
      const { status, output } = system.run(
        `set -e
        cd /root
        ${SERVE_AWS}
        ${STARTS[server]}
        ${REGISTERS[server]}
        # What a person types.
        ${each(steps)}
        ${LOGS_IN(server)}
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

    it('takes a new secret, a later release, and leaves, by the commands of those pages', () => {
      laterRelease(built, system);
      const commands = (page: string, block: number) =>
        echoed(
          typed(page)
            .filter((each) => each.block === block)
            .map(({ line }) => line.replace(/\bprosody$|\bprosody\b(?= --)/, server)),
        );
      const presence = `${LOGS_IN(server)}
        aws sqs receive-message --wait-time-seconds 20 --queue-url https://sqs.eu-west-1.amazonaws.com/123456789012/xmpp-events
        kill $client`;
      const { status, output } = system.run(
        `set -e
        cd /root
        ${SERVE_AWS}
        ${STARTS[server]}
        export AWS_REGION=eu-west-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
        aws cloudformation deploy --template-file /usr/share/doc/xmpp-event-pusher/topics.yaml
        systemctl enable --now xmpp-event-pusher
        setpriv --reuid=nobody --regid=nogroup --clear-groups xmpp-event-pusher adapter status ${server} --url http://127.0.0.1:5290/v1/events --secret x && exit 1
        echo '# a new secret'
        sed -i 's/^TAP_SECRET=.*/TAP_SECRET=the-second-secret-of-the-tap/' /etc/xmpp-event-pusher/environment
        systemctl restart xmpp-event-pusher
        ${commands('docs/secrets.md', 0)}
        ${TAKES_SECRET[server]}
        ${presence}
        echo '# a later release'
        ${commands('docs/upgrade.md', 0)}
        # Where systemd runs, the package does this.
        systemctl restart xmpp-event-pusher
        ${commands('docs/upgrade.md', 1)}
        ${LOADS[server]}
        ${presence}
        dpkg-query -W xmpp-event-pusher
        echo '# gone'
        logged=$(($(wc -l </var/log/${server}/${server}.log) + 1))
        ${commands('docs/uninstall.md', 0)}
        ${commands('docs/uninstall.md', 1)}
        ls /etc/xmpp-event-pusher /var/lib/xmpp-event-pusher
        tail -n "+$logged" /var/log/${server}/${server}.log`,
        { checkout: true },
      );
      if (process.env.SHOW) process.stdout.write(output);
      assert.equal(status, 0, output);
      const received = output.replaceAll('\\', '');
      const [unprivileged = '', secret = '', release = '', gone = ''] = received.split(/^# (?=a new|a later|gone)/m);
      assert.match(unprivileged, /^xmpp-event-pusher: this user may not read \/etc\/\S+: run this as root$/m);
      for (const part of [secret, release]) {
        assert.match(part, /"user_id":"alice@localhost","present":(true|false)/);
        assert.match(part, /^ok {4}http:\/\/127\.0\.0\.1:5290\/v1\/events accepts events with this secret$/m);
        assert.doesNotMatch(part, /^(FAIL|FAILED|WRONG)|already loaded/m);
      }
      assert.match(release, /^xmpp-event-pusher\t99\.0\.0$/m);
      assert.doesNotMatch(gone, /^FAIL|Delete from/m);
      assert.doesNotMatch(gone, /^.*\berror\b.*event_pusher/m, 'the server does not miss the module');
      assert.match(gone, /^environment\npusher\.toml\n/m);
      assert.match(gone, /^outbox\.db$/m);
    });
  });
