/**
 * A machine with only Debian's base system and the Node.js that the README requires: the README's two commands run
 * there.
 *
 * The tests themselves take long and run elsewhere, so only their preparation runs here, unless `MINIMAL_TESTS=1`.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, realpathSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { type Debian, debian } from '../../scripts/debian.ts';
import { ROOT } from '../support/deploy.ts';

/** A Node.js that is not a Debian package: this machine's own, with its npm. */
function bringNode(root: string): void {
  const which = (name: string) => {
    const PATH = (process.env.PATH ?? '').split(':').filter((folder) => !folder.includes('node_modules'));
    return realpathSync(
      execFileSync('sh', ['-c', `command -v ${name}`], { env: { PATH: PATH.join(':') } })
        .toString()
        .trim(),
    );
  };
  const npm = path.dirname(path.dirname(which('npm')));
  const local = path.join(root, 'usr/local');
  mkdirSync(path.join(local, 'lib/node_modules'), { recursive: true });
  cpSync(which('node'), path.join(local, 'bin/node'));
  cpSync(npm, path.join(local, 'lib/node_modules/npm'), { recursive: true });
  symlinkSync('../lib/node_modules/npm/bin/npm-cli.js', path.join(local, 'bin/npm'));
}

/** A setting of npm's on this machine; undefined where it has none. */
function npmSetting(name: string): string | undefined {
  const value = execFileSync('npm', ['config', 'get', name], { cwd: ROOT, encoding: 'utf8' }).trim();
  return ['', 'null', 'undefined'].includes(value) ? undefined : value;
}

/** Certificates that this machine trusts in addition to Node.js's, for a proxy in front of registries. */
const AUTHORITIES = process.env.NODE_EXTRA_CA_CERTS ?? npmSetting('cafile');

describe('a minimal machine', () => {
  let system: Debian;
  before(() => {
    system = debian('bookworm');
    bringNode(system.root);
    if (AUTHORITIES) cpSync(AUTHORITIES, path.join(system.root, 'usr/local/share/authorities.pem'));
    const files = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: ROOT });
    for (const name of files.toString().split('\0').filter(Boolean))
      cpSync(path.join(ROOT, name), path.join(system.root, 'home/project', name), { recursive: true });
  });
  after(() => system[Symbol.dispose]());

  const settings = Object.entries({
    NODE_EXTRA_CA_CERTS: AUTHORITIES && '/usr/local/share/authorities.pem',
    npm_config_registry: npmSetting('registry'),
  }).flatMap(([name, value]) => (value ? `export ${name}='${value}'` : []));
  function run(script: string): { status: number | null; output: string } {
    const { status, output } = system.run(`cd /home/project\n${settings.join('\n')}\n${script}`, { network: true });
    return { status, output: stripVTControlCharacters(output) };
  }
  /** Services enabled for the next boot, besides those of the base system. */
  const enabled = () =>
    run(`find /etc/systemd/system /etc/rc[2-5].d -type l '(' -path '*.wants/*' -o -name 'S*' ')' | sort`).output;

  it('installs without warnings about the Node.js version', () => {
    const { status, output } = run('npm ci');
    assert.equal(status, 0, output);
    assert.doesNotMatch(output, /EBADENGINE|warn/i);
    assert.ok(output.trim().split('\n').length < 5, output);
  });

  it('names what is missing if it may not install it', () => {
    const { status, output } = run(
      "setpriv --reuid=nobody --clear-groups npm run demo --cache /var/tmp/npm 2>&1 | grep -v '^>' | sed '/^$/d'",
    );
    assert.equal(status, 0);
    assert.equal(
      output,
      'Node.js needs the library libatomic.so.1, which is not on this machine: install it (Debian: `apt install libatomic1`) and try again.\n',
    );
  });

  it('runs the demo with a real Prosody, after installing what that needs, and enables no service', () => {
    const before = enabled();
    const { status, output } = run('npm run demo');
    assert.equal(status, 0, output);
    assert.match(output, /\nAll came\. 7 notifications expected, 7 received: Prosody → adapter/);
    assert.equal(enabled(), before);
    assert.equal(run('ls /tmp').output, '');
  });

  it('installs everything that the tests need, and enables no service', () => {
    const before = enabled();
    const { status, output } = run(process.env.MINIMAL_TESTS === '1' ? 'npm test' : 'npm run pretest');
    assert.equal(status, 0, output.slice(-20_000));
    // What systemd itself needs to boot.
    const own = /\/(getty@|remote-fs\.|systemd-)/;
    const fresh = enabled()
      .split('\n')
      .filter((link) => !before.split('\n').includes(link));
    assert.deepEqual(
      fresh.filter((link) => !own.test(link)),
      [],
    );
  });
});
