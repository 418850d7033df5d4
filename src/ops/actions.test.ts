import assert from 'node:assert/strict';
import { it } from 'node:test';
import fastify from 'fastify';
import pino from 'pino';
import type { DeadLetterStore } from '../outbox/dead-letters.ts';
import { guard } from './access.ts';
import { serveActions } from './actions.ts';

it('logs that changing dead letters began, and how many changed before it failed', async () => {
  const lines: unknown[] = [];
  const write = (line: string) => {
    const { level: _, time: __, ...rest } = JSON.parse(line);
    lines.push(rest);
  };
  const log = pino({ level: 'error', base: undefined }, { write });
  const purge: DeadLetterStore['purge'] = async (_, onProgress) => {
    assert.equal(lines.length, 1, 'logged before anything was changed');
    onProgress?.(1_000);
    throw new Error('the disk is full');
  };
  const server = fastify();
  const access = guard(server, { token: undefined, log });
  serveActions(server, {
    deadLetters: { purge } as DeadLetterStore,
    sources: {} as never,
    tryTopic: () => false,
    access,
    log,
  });
  const payload = { reason: 'malformed' };
  const headers = { host: 'localhost' };
  const { statusCode } = await server.inject({ method: 'POST', url: '/api/dead-letters/delete', payload, headers });
  assert.equal(statusCode, 500);
  const asked = { by: 'local', from: '127.0.0.1', reason: 'malformed' };
  assert.deepEqual(lines, [
    { ...asked, msg: 'admin: deletion of dead letters begins' },
    { ...asked, count: 1_000, msg: 'admin: dead letters deleted' },
  ]);
});
