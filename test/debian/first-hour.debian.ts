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
import { type Built, buildPackage, echoed, firstSystem, NODE, SERVE_AWS, typed } from './first-system.ts';

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
