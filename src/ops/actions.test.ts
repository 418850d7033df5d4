import assert from 'node:assert/strict';
import { it } from 'node:test';
import fastify from 'fastify';
import type { Logger } from '../log.ts';
import type { DeadLetters } from '../outbox/outbox.ts';
import { guard } from './access.ts';
import { serveActions } from './actions.ts';

it('a change of dead letters that fails part-way is in the log: that it began, and how many it reached', async () => {
  const lines: { fields: Record<string, unknown>; message: string }[] = [];
  const info = (fields: Record<string, unknown>, message: string) => lines.push({ fields, message });
  const log = { info } as unknown as Logger;
  const purge: DeadLetters['purge'] = async (_, onProgress) => {
    assert.equal(lines.length, 1, 'logged before anything was changed');
    onProgress?.(1_000);
    throw new Error('the disk is full');
  };
  const server = fastify();
  const access = guard(server, { token: undefined, log });
  serveActions(server, { deadLetters: { purge } as DeadLetters, tryTopic: () => false, access, log });
  const payload = { reason: 'malformed' };
  const headers = { host: 'localhost' };
  const { statusCode } = await server.inject({ method: 'POST', url: '/api/dead-letters/delete', payload, headers });
  assert.equal(statusCode, 500);
  const asked = { by: 'local', from: '127.0.0.1', reason: 'malformed' };
  assert.deepEqual(lines, [
    { fields: asked, message: 'admin: deletion of dead letters begins' },
    { fields: { ...asked, count: 1_000 }, message: 'admin: dead letters deleted' },
  ]);
});
