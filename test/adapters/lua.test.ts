/** Tests in Lua of files of the adapter for Prosody, with a stub of Prosody's `module`. Needs Prosody's Lua. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { describe, test } from 'node:test';

const adapter = path.join(import.meta.dirname, '../../adapters/prosody/mod_event_pusher');

describe('the adapter for Prosody, without Prosody', () => {
  test('logs a recurring problem at once, then once a minute with its number', () => {
    const script = path.join(import.meta.dirname, 'lua/report_test.lua');
    const output = execFileSync('lua5.4', [script, path.join(adapter, 'report.lib.lua')], { encoding: 'utf8' });
    assert.equal(output, 'passed\n');
  });
});
