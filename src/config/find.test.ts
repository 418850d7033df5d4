import assert from 'node:assert/strict';
import { chmodSync, chownSync, lchownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { commandTo } from './commands.ts';
import { findConfig, isForeign } from './find.ts';

describe('the configuration file', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'find-'));
  after(() => rmSync(folder, { recursive: true }));
  const there = path.join(folder, 'there.toml');
  const missing = path.join(folder, 'missing.toml');
  writeFileSync(there, '');

  for (const [what, named, environment, places, expected] of [
    [
      'is the one that is named, even if it is not there',
      missing,
      { XMPP_EVENT_PUSHER_CONFIG: there },
      [there],
      missing,
    ],
    ['is else the one of the variable', undefined, { XMPP_EVENT_PUSHER_CONFIG: missing }, [there], missing],
    ['is not named by an empty variable', undefined, { XMPP_EVENT_PUSHER_CONFIG: '' }, [there], there],
    ['is else the first that is there', undefined, {}, [missing, there], there],
    ['is not below what is a file', undefined, {}, [path.join(there, 'pusher.toml'), there], there],
    ['is nowhere when there is none', undefined, {}, [missing], undefined],
  ] as const)
    it(what, () => {
      assert.equal(findConfig(named, environment, places), expected);
    });

  it('is looked for elsewhere from a working directory that this user may not look into', () => {
    const [former, closed] = [process.cwd(), path.join(folder, 'closed')];
    mkdirSync(closed);
    process.chdir(closed);
    chmodSync(closed, 0);
    // Root may look anywhere.
    const isRoot = process.geteuid?.() === 0;
    if (isRoot) process.seteuid?.(65_534);
    try {
      assert.equal(findConfig(undefined, {}, ['pusher.toml', '/']), '/');
      const named = path.join(closed, 'pusher.toml');
      assert.equal(findConfig(undefined, {}, [named, '/']), named, 'so that reading it says why');
    } finally {
      if (isRoot) process.seteuid?.(0);
      process.chdir(former);
      chmodSync(closed, 0o700);
    }
  });

  it('is not trusted in the working directory if another user owns it or a link to it', () => {
    const [own, link] = [path.join(folder, 'own.toml'), path.join(folder, 'link.toml')];
    writeFileSync(own, '');
    symlinkSync(own, link);
    assert.deepEqual(
      [own, link, missing].map((file) => isForeign(file, {})),
      [false, false, false],
    );
    // Only root can give files away.
    if (process.geteuid?.() !== 0) return;
    lchownSync(link, 65_534, 65_534);
    assert.deepEqual(
      [own, link].map((file) => isForeign(file, {})),
      [false, true],
    );
    chownSync(own, 65_534, 65_534);
    assert.equal(isForeign(own, {}), true);
    assert.equal(isForeign(own, { SUDO_UID: '65534' }), false);
  });

  it("quotes the configuration's path in printed commands if necessary", () => {
    assert.equal(
      commandTo(['check', '--publish'], "/a b/it's"),
      `xmpp-event-pusher check --publish --config '/a b/it'\\''s'`,
    );
    assert.equal(commandTo(['init']), 'xmpp-event-pusher init');
  });
});
