/** The npm package: the result of `npm pack` runs by itself, compiled and complete. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startChromium } from '../support/chromium.ts';
import { packedOnce } from '../support/packed.ts';
import { freePorts, launch, until } from '../support/process.ts';
import { weigh } from '../support/weight.ts';

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Its console shows figures after two round trips and 25 kB, loads plots afterwards, and is cached. */
async function opensOnASlowLine(t: TestContext, url: string): Promise<void> {
  await using chromium = await startChromium();
  await using visit = await chromium.visit('about:blank');
  const { page } = visit;
  const { bytes, roundTrips, ms, files } = await weigh(page, url);
  t.diagnostic(
    `first figures of the console at 400 ms and 50 kB/s: ${bytes} bytes, ${roundTrips} round trips, ${ms} ms`,
  );
  // Of 1.5 s two round trips take 0.8 s and the page itself about 0.15 s.
  assert.ok(bytes < 25_000 && roundTrips === 2, `${bytes} bytes and ${roundTrips} round trips for ${files}`);
  await page.locator('#plots canvas').first().waitFor();
  for (const file of files.filter((name) => /\.(js|css)$/.test(name))) {
    const answer = await fetch(url + file, { headers: { 'accept-encoding': 'br' } });
    const { 'content-encoding': encoding, 'cache-control': kept } = Object.fromEntries(answer.headers);
    assert.deepEqual([answer.status, encoding, kept], [200, 'br', 'max-age=31536000, immutable'], file);
  }
  visit.assertQuiet(/asked elsewhere/);
}

describe('the npm package', () => {
  let folder: string;
  let bin: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'package-'));
    await cp((await packedOnce()).content, path.join(folder, 'package'), { recursive: true });
    await symlink(path.join(ROOT, 'node_modules'), path.join(folder, 'package', 'node_modules'));
    bin = path.join(folder, 'package', 'bin', 'xmpp-event-pusher.js');
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it("includes the consumers' library, which needs no dependency of the daemon, and the schemas", async () => {
    // Without node_modules, as in a Lambda's bundle.
    const alone = path.join(folder, 'alone');
    await cp(path.join(folder, 'package'), alone, {
      recursive: true,
      filter: (file) => !file.includes('node_modules'),
    });
    const script = `
      import { parse } from 'xmpp-event-pusher/consumer';
      import schema from 'xmpp-event-pusher/schemas/notification.schema.json' with { type: 'json' };
      console.log(parse('{"user_id":"a","present":true}')[0].kind, schema.title);`;
    const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script], { cwd: alone });
    assert.equal(stdout, 'presence A notification\n');
  });

  it("includes MongooseIM's adapter compiled, for machines without an Erlang compiler", async () => {
    const beams = await readdir(path.join(folder, 'package/dist/mongooseim-ebin'));
    assert.ok(beams.includes('mod_xmpp_event_pusher.beam') && beams.includes('event_pusher_server.beam'), `${beams}`);
  });

  it('contains no sources and no tests', async () => {
    const files = await readdir(path.join(folder, 'package'), { recursive: true });
    const own = files.filter((file) => !file.startsWith('node_modules'));
    assert.deepEqual(
      own.filter((file) => /^(src|test|bench)|\.test\.[jt]s/.test(file)),
      [],
    );
  });

  it('runs the daemon with its console, and installs the included adapters', async (t) => {
    const [tap, admin] = (await freePorts(2)) as [number, number];
    const config = path.join(folder, 'pusher.toml');
    await writeFile(
      config,
      `[modules.mod_event_pusher.sns]
       sns_host = "http://127.0.0.1:1"
       region = "eu-west-1"
       access_key_id = "a"
       secret_access_key = "b"
       account_id = "123456789012"
       [tap.http]
       listen = "127.0.0.1:${tap}"
       [admin]
       listen = "127.0.0.1:${admin}"`,
    );
    const daemon = await launch(process.execPath, [bin, 'run', '--config', config]);
    try {
      await until('the daemon', async () => (await fetch(`http://127.0.0.1:${admin}/readyz`)).ok);
      const page = await fetch(`http://127.0.0.1:${admin}/`);
      assert.equal(page.status, 200);
      assert.match(await page.text(), /<html/);
      await opensOnASlowLine(t, `http://127.0.0.1:${admin}/`);
      // Uses the thread that keeps the record.
      const asked = `http://127.0.0.1:${admin}/api/find?what=nobody`;
      assert.deepEqual(((await (await fetch(asked)).json()) as { findings: unknown }).findings, []);
      const check = await run(process.execPath, [bin, 'adapter', 'check', '--config', config]);
      assert.match(check.stdout, /^ok/);
    } finally {
      await daemon.end('SIGTERM');
    }
    await run(process.execPath, [
      bin,
      'adapter',
      'install',
      'prosody',
      '--to',
      path.join(folder, 'p'),
      '--config',
      config,
    ]);
    await run(process.execPath, [
      bin,
      'adapter',
      'install',
      'ejabberd',
      '--to',
      path.join(folder, 'e'),
      '--config',
      config,
    ]);
    assert.ok((await readdir(path.join(folder, 'p/mod_event_pusher'))).includes('mod_event_pusher.lua'));
    assert.ok((await readdir(path.join(folder, 'e/sources/mod_event_pusher/src'))).includes('mod_event_pusher.erl'));
  });
});
