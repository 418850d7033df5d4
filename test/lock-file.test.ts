/** The lock file: `npm ci` works on a machine with only some Node.js. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, it } from 'node:test';
import { ROOT } from './support/deploy.ts';

interface Locked {
  readonly resolved?: string;
  readonly hasInstallScript?: boolean;
}

describe('the lock file', () => {
  const packages = async () => {
    const lock = JSON.parse(await readFile(path.join(ROOT, 'package-lock.json'), 'utf8'));
    return Object.entries(lock.packages as Record<string, Locked>);
  };

  it('only the package with Node.js has an install script', async () => {
    // Install scripts find the pinned Node.js first, which needs a library that base systems lack: `npm ci` would fail.
    const scripted = (await packages()).filter(([, { hasInstallScript }]) => hasInstallScript);
    assert.deepEqual(
      scripted.map(([folder]) => folder),
      ['node_modules/node'],
    );
  });

  it('the lock file has no download addresses: npm uses the configured registry', async () => {
    const addressed = (await packages()).filter(([, { resolved }]) => resolved?.startsWith('http'));
    assert.deepEqual(addressed, []);
  });
});
