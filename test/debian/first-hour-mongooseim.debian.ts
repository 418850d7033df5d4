/**
 * The commands of the quick start for MongooseIM, typed into a fresh Debian, and what they print pasted where they say.
 *
 * There is no package of MongooseIM: the stand-in with its hooks runs with the configuration files of the release's
 * package. The rest is real, as in the first hour with the other servers.
 */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { Debian } from '../../scripts/debian.ts';
import { compileStandIn } from '../support/mongooseim.ts';
import { type Built, buildPackage, echoed, firstSystem, NODE, SERVE_AWS, typed } from './first-system.ts';

const TOML = `[general]
  hosts = ["localhost"]
  loglevel = "warning"

[modules.mod_roster]

[modules.mod_event_pusher.sns]
  presence_updates_topic = "user_presence_updated"
  pm_messages_topic = "user_message_sent"
  muc_messages_topic = "user_messagegroup_sent"
  sns_host = "sns.eu-west-1.amazonaws.com"
  region = "eu-west-1"
  access_key_id = "AKIAIOSFODNN7EXAMPLE"
  secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
  account_id = "123456789012"
`;

/** What a person does with the three lines that were printed. */
const PASTE = `
  cd /etc/mongooseim
  pasted() { awk -v title="Add to /etc/mongooseim/$1" 'index($0, title) { getline; getline; sub(/^ +/, ""); print; exit }' /tmp/typed.log; }
  pasted vm.args >> vm.args
  { echo '['; pasted app.config; tail -n +2 app.config; } > new && mv new app.config
  sed -i '/^.modules.mod_event_pusher.sns.$/,$d' mongooseim.toml
  pasted mongooseim.toml >> mongooseim.toml
  cd /root`;

describe('the first hour with MongooseIM', () => {
  let built: Built;
  let system: Debian;
  before(async () => {
    built = buildPackage();
    system = await firstSystem(built, ['erlang-base', 'erlang-ssl', 'erlang-public-key', 'erlang-inets']);
    const at = (name: string) => path.join(system.root, name);
    for (const folder of ['etc/mongooseim', 'usr/lib/mongooseim/releases']) mkdirSync(at(folder), { recursive: true });
    cpSync((await compileStandIn()).standin, at('usr/lib/mongooseim/standin'), { recursive: true });
    writeFileSync(at('usr/lib/mongooseim/releases/start_erl.data'), '13.1.5 6.8.0');
    writeFileSync(at('etc/mongooseim/mongooseim.toml'), TOML);
    writeFileSync(at('etc/mongooseim/app.config'), '[\n {kernel, [{logger_level, notice}]}\n].\n');
    writeFileSync(at('etc/mongooseim/vm.args'), '## Name of the node\n-setcookie mongooseim\n');
  });
  after(() => {
    system[Symbol.dispose]();
    built[Symbol.dispose]();
  });

  it('publishes what its own section named, by the commands and the three printed lines', () => {
    const lines = typed('docs/quick-start-mongooseim.md');
    const [steps, then] = [0, 1].map((block) => lines.filter((each) => each.block === block).map(({ line }) => line));
    assert.ok(steps && then);
    const { status, output } = system.run(
      `set -e
      cd /root
      ${SERVE_AWS}
      # Its subscribers' queue, as it was before.
      export AWS_REGION=eu-west-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
      aws cloudformation deploy --template-file /checkout/deploy/cloudformation/topics.yaml
      unset AWS_REGION AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
      systemctl restart mongooseim
      trap 'cat /tmp/typed.log /tmp/mongooseim.log' EXIT
      { ${echoed(steps)}
      } >/tmp/typed.log 2>&1
      ${PASTE}
      { ${echoed(then.slice(0, 1))}
        ${NODE} /checkout/test/debian/mongooseim.ts login alice@localhost/phone
        ${echoed(then.slice(1)).replace(/\btail$/m, 'tail & sleep 3; kill $!')}
      } >>/tmp/typed.log 2>&1
      export AWS_REGION=eu-west-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
      aws sqs receive-message --wait-time-seconds 20 --queue-url https://sqs.eu-west-1.amazonaws.com/123456789012/xmpp-events`,
      { checkout: true },
    );
    assert.equal(status, 0, output);
    assert.ok(output.replaceAll('\\', '').includes('{"user_id":"alice@localhost","present":true}'), output);
    assert.doesNotMatch(output, /^FAIL/m);
  });
});
