/**
 * Actions of the person on call: view, replay and delete dead letters, retry a paused topic. Each is logged, at any
 * level.
 */
import { PassThrough, Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { z } from 'zod';
import { messageOf } from '../errors.ts';
import { DEAD_LETTER_SORTS, type DeadLetterFilter, type DeadLetterStore } from '../outbox/dead-letters.ts';
import { linesOfLetters } from '../outbox/letter-lines.ts';
import { MOST_LISTED, type SourceStore } from '../outbox/sources.ts';
import { type Access, refuse } from './access.ts';
import { atAnyLevel, type Logger } from './log.ts';

interface ActionsSetup {
  readonly deadLetters: DeadLetterStore;
  readonly sources: SourceStore;
  /** Retries a paused topic at once; false when there is no such topic or it is not paused. */
  readonly tryTopic: (arn: string) => boolean;
  readonly access: Access;
  readonly log: Logger;
}

const id = z.coerce.number().int().positive();
const text = z.string().min(1).max(2_048);

const listQuery = z.object({
  reason: text.optional(),
  topic: text.optional(),
  match: text.optional(),
  upTo: id.optional(),
  sort: z.enum(DEAD_LETTER_SORTS).default('id'),
  order: z.enum(['ascending', 'descending']).default('descending'),
  offset: z.coerce.number().int().min(0).default(0),
  limit: z.coerce.number().int().min(1).max(200).default(50),
});

const exportQuery = z.object({ reason: text.optional(), topic: text.optional(), match: text.optional() });

const findQuery = z.object({
  reason: text.optional(),
  topic: text.optional(),
  match: text.optional(),
  after: z.coerce.number().int().min(0).default(0),
  limit: z.coerce.number().int().min(1).max(200).default(50),
  content: z.enum(['yes', 'no']).default('no'),
});

/** The response to a change, if the client accepts it: a line of JSON now and then, and a final one. */
export const PROGRESS_TYPE = 'application/x-ndjson';

/** A line of that response. */
export type ProgressLine = { readonly count: number } | { readonly error: { code: string; message: string } };

/** The dead letters of an action. Selecting all of them must be explicit. */
const selection = z
  .strictObject({
    ids: z.array(z.number().int().positive()).min(1).max(1_000).optional(),
    reason: text.optional(),
    topic: text.optional(),
    match: text.optional(),
    all: z.literal(true).optional(),
    upTo: z.number().int().positive().optional(),
  })
  .refine(({ ids, reason, topic, match, all }) => ids || reason || topic || match || all);

export function serveActions(
  server: FastifyInstance,
  { deadLetters, sources, tryTopic, access, log }: ActionsSetup,
): void {
  serveSources(server, { sources, access, log });
  server.get('/api/dead-letters', async (request, reply) => {
    const parsed = listQuery.safeParse(request.query);
    if (!parsed.success)
      return malformed(
        reply,
        `reason, topic, match, upTo (a number), sort (${DEAD_LETTER_SORTS.join(', ')}), order (ascending, descending), offset and limit (1 to 200)`,
      );
    const { reason, topic, match, upTo: upToId, sort, order, offset, limit } = parsed.data;
    const filter = { reason, topic, match, upToId };
    const page = await deadLetters.browse({ filter, sort, descending: order === 'descending', offset, limit });
    return { ...page, counts: await deadLetters.counts() };
  });

  server.get('/api/dead-letters/export', { exposeHeadRoute: false }, async (request, reply) => {
    const parsed = exportQuery.safeParse(request.query);
    if (!parsed.success) return malformed(reply, 'reason, topic and match');
    const asked = { ...access.who(request), ...parsed.data };
    atAnyLevel(log).info(asked, 'admin: export of dead letters begins');
    let count = 0;
    const lines = linesOfLetters(deadLetters, parsed.data, (more) => {
      count += more;
    });
    // Reads page by page, as fast as the client reads.
    const stream = Readable.from(lines, { objectMode: true, highWaterMark: 1 });
    stream.once('close', () => atAnyLevel(log).info({ ...asked, count }, 'admin: contents of dead letters exported'));
    return reply
      .type(PROGRESS_TYPE)
      .header('content-disposition', 'attachment; filename="dead-letters.jsonl"')
      .send(stream);
  });

  server.get('/api/dead-letters/find', async (request, reply) => {
    const parsed = findQuery.safeParse(request.query);
    if (!parsed.success)
      return malformed(reply, 'reason, topic, match, after (a number), limit (1 to 200) and content (yes, no)');
    const { reason, topic, match, after, limit, content } = parsed.data;
    const letters = await deadLetters.find({ reason, topic, match }, limit, after);
    if (content === 'no') return { letters: letters.map(({ content: _, ...summary }) => summary) };
    const shown = { reason, topic, match, count: letters.length };
    atAnyLevel(log).info({ ...access.who(request), ...shown }, 'admin: contents of dead letters shown');
    return { letters };
  });

  server.get('/api/dead-letters/:id', async (request, reply) => {
    const parsed = id.safeParse((request.params as { id: string }).id);
    const letter = parsed.success ? await deadLetters.read(parsed.data) : undefined;
    if (!letter) return refuse(reply, 404, 'not_found', 'this dead letter does not exist any more');
    atAnyLevel(log).info({ ...access.who(request), deadLetter: letter.id }, 'admin: content of a dead letter shown');
    return letter;
  });

  const change = (
    path: string,
    begun: string,
    done: string,
    act: (filter: DeadLetterFilter, onProgress: (count: number) => void) => Promise<number>,
  ): FastifyInstance =>
    server.post(path, async (request, reply) => {
      const parsed = selection.safeParse(request.body);
      if (!parsed.success) return malformed(reply, 'ids, reason, topic, match or all: true, and upTo');
      const { ids, reason, topic, match, upTo } = parsed.data;
      const asked = { ...access.who(request), ...parsed.data };
      // Logged before too: a bulk change that fails or is killed half-way has changed something.
      atAnyLevel(log).info(asked, begun);
      const steps = request.headers.accept === PROGRESS_TYPE ? new PassThrough() : undefined;
      const write = (line: ProgressLine) => steps?.write(`${JSON.stringify(line)}\n`);
      let count = 0;
      const carryOut = async () => {
        try {
          count = await act({ ids, reason, topic, match, upToId: upTo }, (sum) => {
            count = sum;
            write({ count });
          });
          return { count };
        } finally {
          atAnyLevel(log).info({ ...asked, count }, done);
        }
      };
      if (!steps) return carryOut();
      void carryOut()
        .then(write, (error) => write({ error: { code: 'internal', message: messageOf(error) } }))
        .finally(() => steps.end());
      return reply.type(PROGRESS_TYPE).send(steps);
    });
  change(
    '/api/dead-letters/replay',
    'admin: replay of dead letters begins',
    'admin: replay of dead letters requested',
    deadLetters.requestReplay,
  );
  change(
    '/api/dead-letters/delete',
    'admin: deletion of dead letters begins',
    'admin: dead letters deleted',
    deadLetters.purge,
  );

  server.post('/api/topics/try', async (request, reply) => {
    const parsed = z
      .union([z.strictObject({ arn: text }), z.strictObject({ arns: z.array(text).min(1).max(1_000) })])
      .safeParse(request.body);
    if (!parsed.success) return malformed(reply, 'arn, or arns');
    const asked = 'arn' in parsed.data ? [parsed.data.arn] : parsed.data.arns;
    const tried = asked.filter((topic) => tryTopic(topic));
    if (tried.length === 0) return refuse(reply, 409, 'not_paused', 'this topic is not paused');
    for (const topic of tried)
      atAnyLevel(log).info({ ...access.who(request), topic }, 'admin: paused topic retried early');
    return { tried: tried.length };
  });
}

/** Sources and the holes in their numbers. */
function serveSources(
  server: FastifyInstance,
  { sources, access, log }: Omit<ActionsSetup, 'deadLetters' | 'tryTopic'>,
) {
  server.get('/api/sources', async () => ({ sources: await sources.list(MOST_LISTED), holes: await sources.holes() }));

  server.post('/api/sources/acknowledge', async (request, reply) => {
    const parsed = z
      .strictObject({ source: text.optional(), all: z.literal(true).optional() })
      .refine(({ source, all }) => (source === undefined) !== (all === undefined))
      .safeParse(request.body);
    if (!parsed.success) return malformed(reply, 'source, or all: true');
    const count = await sources.acknowledge(parsed.data.source);
    atAnyLevel(log).info({ ...access.who(request), ...parsed.data, count }, 'admin: holes of sources acknowledged');
    return { count };
  });

  server.post('/api/sources/retire', async (request, reply) => {
    const parsed = z.strictObject({ source: text }).safeParse(request.body);
    if (!parsed.success) return malformed(reply, 'source');
    if (!(await sources.retire(parsed.data.source))) return refuse(reply, 404, 'not_found', 'there is no such source');
    atAnyLevel(log).info({ ...access.who(request), ...parsed.data }, 'admin: source retired');
    return {};
  });
}

const malformed = (reply: FastifyReply, expected: string) =>
  refuse(reply, 400, 'malformed', `accepted parameters: ${expected}`);
