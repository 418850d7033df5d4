import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { Client } from 'undici';
import { type LocalListener, listenLocally, socketBeside, socketPathProblem } from './socket.ts';

describe('the Unix socket', () => {
  let root: string;
  let file: string;
  let folders = 0;
  before(() => {
    root = realpathSync(mkdtempSync(path.join(tmpdir(), 'socket-')));
  });
  after(() => rmSync(root, { recursive: true, force: true }));
  beforeEach(() => {
    const folder = path.join(root, `${++folders}`);
    mkdirSync(folder);
    file = path.join(folder, 'outbox.db.sock');
  });

  const listen = (): Promise<LocalListener> => listenLocally(file, (_, response) => void response.end('here'));
  const ask = async (): Promise<string> => {
    const client = new Client('http://localhost', { socketPath: file });
    try {
      return await (await client.request({ path: '/', method: 'GET' })).body.text();
    } finally {
      await client.destroy();
    }
  };

  it('the socket is for its owner only, whatever the umask, and is deleted at the end', async () => {
    const mask = process.umask(0);
    const listener = await listen().finally(() => process.umask(mask));
    assert.equal(statSync(file).mode & 0o777, 0o600);
    assert.equal(await ask(), 'here');
    await listener.close();
    assert.equal(existsSync(file), false);
  });

  it('replaces the socket of a killed process', async () => {
    const code = `require('node:net').createServer().listen(${JSON.stringify(file)}, () => process.kill(process.pid, 'SIGKILL'))`;
    assert.throws(() => execFileSync(process.execPath, ['-e', code]));
    assert.equal(existsSync(file), true);
    const listener = await listen();
    assert.equal(await ask(), 'here');
    await listener.close();
  });

  it('keeps a socket that another process listens on', async () => {
    const first = await listen();
    await assert.rejects(listen(), /another process listens on .*outbox\.db\.sock/);
    assert.equal(await ask(), 'here');
    await first.close();
  });

  it('keeps files that are not sockets, and targets of links', async () => {
    writeFileSync(file, 'precious');
    await assert.rejects(listen(), /exists and is not a socket: delete it/);
    rmSync(file);
    symlinkSync(path.join(root, 'elsewhere'), file);
    await assert.rejects(listen(), /exists and is not a socket: delete it/);
  });

  it('refuses a path that the system would truncate', async () => {
    file = path.join(path.dirname(file), `${'x'.repeat(120)}.sock`);
    assert.match(String(socketPathProblem(file)), /has \d+ bytes, and a Unix socket's path at most 10\d/);
    await assert.rejects(listen(), /has \d+ bytes, and a Unix socket's path at most 10\d/);
  });

  it('accepts the longest path that the system allows', async () => {
    const longest = process.platform === 'linux' ? 107 : 103;
    file = path.join(path.dirname(file), 'é'.repeat(60)).slice(0, longest);
    while (Buffer.byteLength(file) > longest) file = file.slice(0, -1);
    file += 'x'.repeat(longest - Buffer.byteLength(file));
    const listener = await listen();
    assert.equal(await ask(), 'here');
    assert.ok(existsSync(file));
    await listener.close();
  });

  it('places the socket beside the target of a link', () => {
    const link = path.join(root, 'link.db');
    assert.equal(socketBeside(link), `${link}.sock`);
    writeFileSync(path.join(root, 'real.db'), '');
    symlinkSync('real.db', link);
    assert.equal(socketBeside(link), path.join(root, 'real.db.sock'));
  });
});
