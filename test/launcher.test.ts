/** The launcher, a shell script on the PATH, in several shells. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { version } from '../src/version.ts';

const LAUNCHER = fileURLToPath(new URL('../bin/xmpp-event-pusher', import.meta.url));

describe('the command on the PATH', () => {
  let folder: string;
  let applets: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'launcher-'));
    applets = path.join(folder, 'applets');
    for (const name of ['applets', 'link', 'node', 'with space']) await mkdir(path.join(folder, name));
    spawnSync('busybox', ['--install', '-s', applets]);
    await symlink(process.execPath, path.join(folder, 'node/node'));
    // Links as `npm install -g` creates them, and a second level.
    await symlink(LAUNCHER, path.join(folder, 'with space/xmpp-event-pusher'));
    await symlink('../with space/xmpp-event-pusher', path.join(folder, 'link/xmpp-event-pusher'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  /** Runs a line in a shell that finds commands only in these folders. */
  function shell(line: string, where: string[]) {
    const env = { PATH: [path.join(folder, 'link'), ...where].join(':') };
    const { status, stdout, stderr } = spawnSync(path.join(applets, 'sh'), ['-c', line], { env, encoding: 'utf8' });
    return { status, stdout, stderr };
  }
  const withNode = () => [path.join(folder, 'node'), applets];

  for (const [name, interpreter] of [
    ['BusyBox', 'sh'],
    ['dash', '/bin/dash'],
    ['bash', '/bin/bash --posix'],
  ])
    it(`runs in the shell of ${name}, with BusyBox's commands only, through links`, () => {
      assert.deepEqual(shell(`${interpreter} "$(command -v xmpp-event-pusher)" --version`, withNode()), {
        status: 0,
        stdout: `${version}\n`,
        stderr: '',
      });
    });

  it('passes on arguments and the exit code unchanged', () => {
    const { status, stderr } = shell(`xmpp-event-pusher run --config '/no such/"file*"'`, withNode());
    assert.equal(status, 78);
    assert.ok(stderr.includes('/no such/"file*"'), stderr);
  });

  it('replaces itself with Node.js, with memory flags, so that signals reach the daemon', async () => {
    await writeFile(
      path.join(folder, 'node/preload.cjs'),
      'console.log(process.pid, process.execArgv.join(" "), process.env.MALLOC_ARENA_MAX, process.env.MALLOC_MMAP_THRESHOLD_); process.exit()',
    );
    const { stdout } = shell(
      `NODE_OPTIONS='--require ${folder}/node/preload.cjs' xmpp-event-pusher & wait; echo $!`,
      withNode(),
    );
    const [line = '', shells = ''] = stdout.split('\n');
    assert.equal(line, `${shells} --max-semi-space-size=16 --heap-growing-percent=100 2 131072`);
  });

  it('leaves --env-file to the command, which reads values as systemd does', async () => {
    const config = path.join(folder, 'pusher.toml');
    await writeFile(
      config,
      `[modules.mod_event_pusher.sns]
      pm_messages_topic = "\${TOPIC}"
      sns_host = "sns.eu-west-1.amazonaws.com"
      region = "eu-west-1"
      account_id = "123456789012"
      credentials = "aws"
      message_attributes = { kind = "\${KIND}" }`,
    );
    const policy = (file: string) =>
      shell(`xmpp-event-pusher iam-policy --config '${config}' --env-file '${file}'`, withNode());
    await writeFile(path.join(folder, 'variables'), 'TOPIC=my-topic # not a comment\nKIND=k\n');
    assert.equal(policy(path.join(folder, 'variables')).status, 78, 'Node.js would cut the value');
    await writeFile(path.join(folder, 'variables'), 'export TOPIC=no\nTOPIC=my-topic\nKIND=k#l\n');
    const { status, stdout } = policy(path.join(folder, 'variables'));
    assert.equal(status, 0);
    assert.match(stdout, /:123456789012:my-topic"/);
    const missing = policy(path.join(folder, 'none'));
    assert.equal(missing.status, 78);
    assert.match(missing.stderr, /^xmpp-event-pusher: can't read --env-file \S+none: ENOENT/);
  });

  it('reports a missing Node.js', () => {
    const none = shell('xmpp-event-pusher run', [applets]);
    assert.equal(none.status, 127);
    assert.match(none.stderr, /^xmpp-event-pusher needs Node\.js 24 or newer, and there is no `node` on the PATH\n$/);
  });
});
