/**
 * The live feed: one stream of server-sent events for the console and for `tail`.
 * https://html.spec.whatwg.org/multipage/server-sent-events.html
 *
 * - `hello`: `{ version, samples, state }`, or without samples, first, and again after a reader was too slow for a
 *   while;
 * - `tick`: `{ sample, state }`, after every sample;
 * - `notifications`: `{ list, missed }`, several times a second while there are any and the reader wants them.
 *
 * `hello` has the name of the stream. With it, a reader that serves several (one browser tab does so for all tabs)
 * changes what each of them wants without a new connection; their notifications have `of`.
 *
 * Maintained invariants:
 * - A slow reader costs a bounded buffer, and learns how much it missed.
 * - A reader that stops reading is disconnected: after 4 s if more than `MOST_UNREAD` waits for it, otherwise after 30
 *   s.
 */
import { randomBytes } from 'node:crypto';
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { version } from '../version.ts';
import { type Access, refuse } from './access.ts';
import type { Delivered, Flow, Sample } from './flow.ts';
import { atAnyLevel, type Logger } from './log.ts';
import { matcherOf } from './match.ts';
import type { State } from './state.ts';

/** A notification in the feed. */
export interface TailLine {
  /** When SNS accepted it, and when the event happened; milliseconds since the Unix epoch. */
  readonly at: number;
  readonly eventAt: number;
  readonly topic: string;
  readonly eventId: string;
  /** The bare JID of its order key: the user, the sender, or the room. */
  readonly about: string;
  readonly bytes: number;
  /** The published JSON string, if the reader requested bodies. */
  readonly message?: string;
}

/** A batch of notifications for a reader. */
export interface TailLines {
  readonly list: readonly TailLine[];
  /** Notifications left out because the reader was too slow, or limited them. */
  readonly missed: number;
  /** Notifications examined, if the reader filters them. */
  readonly passed?: number;
  /** The recipient, where a reader serves several. */
  readonly of?: string;
}

interface LiveSetup {
  readonly flow: Flow;
  readonly state: () => State;
  readonly access: Access;
  readonly log: Logger;
}

/** Interval for sending notifications, in milliseconds, and the most at a time. */
const FLUSH_MS = 250;
const MOST_LINES = 10_000;
/** Approximate limit of one reader's backlog, in bytes: a body may have a quarter of a megabyte. */
const MOST_BYTES = 4 * 1024 * 1024;
/** The same for a reader with unread output. */
const MOST_UNREAD = 1024 * 1024;
/** Samples until a reader that reads nothing is disconnected, with a large and with a small backlog. */
const PATIENCE = { much: 1, little: 15 };
/** Size of a line without its strings. */
const LINE_BYTES = 200;

const query = z.object({
  tail: z.enum(['off', 'lines', 'bodies']).default('off'),
  samples: z.enum(['yes', 'no']).default('yes'),
  most: z.coerce.number().int().min(1).max(MOST_LINES).default(MOST_LINES),
  match: z.string().max(500).optional(),
  topic: z.string().min(1).max(300).optional(),
});

/** Most recipients that a reader may serve. */
const MOST_FOLLOWED = 20;

const followBody = z.strictObject({
  follow: z
    .array(
      z.strictObject({
        of: z.string().min(1).max(1_000),
        bodies: z.boolean(),
        match: z.string().max(500),
        most: z.number().int().min(1).max(MOST_LINES),
      }),
    )
    .max(MOST_FOLLOWED),
});

/** Makes a stream follow these, in place of those from an earlier request of this kind. */
type Follow = (list: z.infer<typeof followBody>['follow'], request: FastifyRequest) => void;

export function serveLive(server: FastifyInstance, { flow, state, access, log }: LiveSetup): void {
  server.get('/api/samples', async () => columnsOf(flow.samples()));

  const streams = new Map<string, Follow>();
  server.post('/api/live/:stream', async (request, reply) => {
    const parsed = followBody.safeParse(request.body);
    if (!parsed.success)
      return refuse(
        reply,
        400,
        'malformed',
        `follow is a list of up to ${MOST_FOLLOWED}, each with of, bodies, match, most`,
      );
    const follow = streams.get((request.params as { stream: string }).stream);
    if (!follow) return refuse(reply, 404, 'not_found', 'this stream has ended');
    follow(parsed.data.follow, request);
    return {};
  });

  // No HEAD: it would wait for a stream that has no body.
  server.get('/api/live', { exposeHeadRoute: false }, (request, reply) => {
    const parsed = query.safeParse(request.query);
    if (!parsed.success)
      return refuse(
        reply,
        400,
        'malformed',
        'tail is off, lines or bodies; samples is yes or no; most is a number; match and topic are texts',
      );
    const { tail, samples, most, match, topic } = parsed.data;
    const bodies = tail === 'bodies';
    const logBodies = (by: FastifyRequest) =>
      atAnyLevel(log).info(access.who(by), 'admin: live tail with message bodies opened');
    if (bodies) logBodies(request);

    const stream = randomBytes(16).toString('base64url');
    const greeting = () => ({ stream, version, ...(samples === 'yes' && { samples: flow.samples() }), state: state() });
    // Before the response begins: if the outbox doesn't answer, this fails like any other request.
    const first = greeting();
    reply.hijack();
    const { raw } = reply;
    const stops: (() => void)[] = [];
    const stop = () => {
      for (const each of stops.splice(0)) each();
    };
    raw.once('close', stop);
    // A reader that disconnects is no fault of the daemon.
    raw.on('error', stop);
    const headers = reply.getHeaders() as OutgoingHttpHeaders;
    raw.writeHead(200, { ...headers, 'content-type': 'text/event-stream', 'x-accel-buffering': 'no' });
    const send = (event: string, data: unknown) => raw.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    let behind = false;
    const reads = createWatch(raw);
    const onSample = (sample: Sample) => {
      if (!access.allows(request)) {
        // Now, not when the stream closes: a reader that doesn't read delays that, and nothing may be written by then.
        stop();
        raw.end();
      } else if (!reads()) {
        log.warn(
          { ...access.who(request), unread: raw.writableLength },
          'admin: closing a live feed whose reader does not read',
        );
        raw.destroy();
      } else if (raw.writableNeedDrain) {
        behind = true;
      } else if (behind) {
        send('hello', greeting());
        behind = false;
      } else {
        send('tick', { sample, state: state() });
      }
    };
    send('hello', first);
    stops.push(flow.onSample(onSample));
    if (tail !== 'off')
      stops.push(followTail(flow, { bodies, most, wanted: matcherOf({ match, topic }, bodies) }, raw, send));
    const followed = new Map<string, () => void>();
    const stopFollowing = (keep: readonly string[] = []) => {
      for (const [of, end] of followed)
        if (!keep.includes(of)) {
          followed.delete(of);
          end();
        }
    };
    streams.set(stream, (list, by) => {
      stopFollowing(list.map(({ of }) => of));
      for (const { of, bodies, match, most } of list) {
        if (followed.has(of)) continue;
        if (bodies) logBodies(by);
        const options = { bodies, most, wanted: matcherOf({ match }, bodies) };
        followed.set(
          of,
          followTail(flow, options, raw, (event, lines) => send(event, { of, ...lines })),
        );
      }
    });
    stops.push(() => streams.delete(stream), stopFollowing);
    return reply;
  });
}

/** The samples by column, which is half as long. */
function columnsOf(samples: readonly Sample[]): Record<keyof Sample, (number | null)[]> {
  const names = ['at', 'in', 'out', 'backlog', 'p50', 'p99'] as const;
  const columns = names.map((name) => [name, samples.map((sample) => sample[name])]);
  return Object.fromEntries(columns) as Record<keyof Sample, (number | null)[]>;
}

/** Returns a function that checks, at each sample, whether a reader still reads. */
export function createWatch(reader: Pick<ServerResponse, 'writableNeedDrain' | 'writableLength'>): () => boolean {
  let before = 0;
  let still = 0;
  return () => {
    const { writableNeedDrain, writableLength } = reader;
    still = writableNeedDrain && before > 0 && writableLength >= before ? still + 1 : 0;
    before = writableNeedDrain ? writableLength : 0;
    return still < (writableLength > MOST_UNREAD ? PATIENCE.much : PATIENCE.little);
  };
}

interface TailOptions {
  readonly bodies: boolean;
  readonly most: number;
  /** Which notifications; undefined: all. */
  readonly wanted: ReturnType<typeof matcherOf>;
}

/** Sends notifications, the last few first; returns a function that stops it. */
function followTail(
  flow: Flow,
  { bodies, most, wanted }: TailOptions,
  reader: Pick<ServerResponse, 'writableNeedDrain'>,
  send: (event: string, data: TailLines) => void,
): () => void {
  // Lines rather than notifications, so that no body stays in memory for a reader without bodies.
  let waiting: TailLine[] = [];
  let bytes = 0;
  let missed = 0;
  let passed = 0;
  const add = (delivered: Delivered) => {
    passed += 1;
    if (wanted && !wanted(delivered.notification)) return;
    const line = lineOf(delivered, bodies);
    const size =
      LINE_BYTES + 2 * (line.topic.length + line.eventId.length + line.about.length + (line.message?.length ?? 0));
    const room = reader.writableNeedDrain ? MOST_UNREAD : MOST_BYTES;
    if (waiting.length >= most || (waiting.length > 0 && bytes + size > room)) {
      missed += 1;
      return;
    }
    waiting.push(line);
    bytes += size;
  };
  for (const delivered of wanted ? flow.recent() : flow.recent().slice(-most)) add(delivered);
  const stop = flow.onDelivered(add);
  const flush = () => {
    if (reader.writableNeedDrain || (waiting.length === 0 && missed === 0 && !(wanted && passed > 0))) return;
    send('notifications', { list: waiting, missed, ...(wanted && { passed }) });
    waiting = [];
    bytes = 0;
    missed = 0;
    passed = 0;
  };
  flush();
  const timer = setInterval(flush, FLUSH_MS);
  return () => {
    clearInterval(timer);
    stop();
  };
}

function lineOf({ notification, at }: Delivered, bodies: boolean): TailLine {
  const { at: eventAt, topic, eventId, orderKey: about, bytes, message } = notification;
  return { at, eventAt, topic, eventId, about, bytes, ...(bodies && { message }) };
}
