/**
 * The daemon's side of the record: notes what comes of events as it happens, and hands it to the thread that keeps it
 * several times a second.
 *
 * Maintained invariants:
 * - A request to the sink costs one line of text here, and no I/O.
 * - What waits for the thread is bounded; past it records are lost, and counted.
 * - Nothing that happens to the record reaches the deliveries.
 */
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { messageOf } from '../errors.ts';
import type { Log } from '../log.ts';
import { namesOf } from '../notification/notification.ts';
import { letterNames } from '../outbox/sqlite/find.ts';
import type { Report } from '../pipeline/report.ts';
import { createQuestions } from './ask.ts';
import type { Coverage } from './file.ts';
import { type Found, findAll } from './find.ts';
import type { History, Moment, Span } from './history-file.ts';
import type { Asked, FromKeeper, InOutbox, InRecord, KeeperOptions, ToKeeper, TraceState } from './messages.ts';
import { deadLine, deliveredLine, type Entry, skippedLine } from './record.ts';

/** How often records are handed on, in milliseconds, and how many characters of them wait at most until then. */
const FLUSH_MS = 250;
const FLUSH_LENGTH = 1_048_576;
/**
 * How many characters of them wait as strings. Behind it they are bytes, which lie beside the heap: of what waits a quarter
 * of a second in it, the garbage collector would copy all, several times.
 */
const LOOSE_LENGTH = 16_384;
/** How much may wait for the thread, in characters. */
const MOST_WAITING = 33_554_432;
/** How long a thread that ended is left alone, in milliseconds, and how long a stop waits for it. */
const RESTART_MS = 30_000;
const STOP_MS = 5_000;

export interface Trace {
  readonly report: Pick<Report, 'request' | 'skipped' | 'deadLetter'>;
  state(): TraceState;
  /** What became of what is asked for. @throws Error where too many ask at once, or the outbox can't be read */
  find(asked: Asked): Promise<Found>;
  history(): Promise<History>;
  span(span: Span): void;
  moment(moment: Moment): void;
  /** Writes what is pending. */
  close(): Promise<void>;
}

export interface TraceOptions extends Omit<KeeperOptions, 'startedAt'> {
  readonly log: Log;
}

/** Starts the thread; a record that can't be kept is no reason not to start. */
export function startTrace(options: TraceOptions): Trace {
  return new RunningTrace(options);
}

class RunningTrace implements Trace {
  readonly report: Trace['report'];
  readonly #log: Log;
  readonly #options: KeeperOptions;
  readonly #questions = createQuestions((message) => this.#post(message));
  #worker: Worker | undefined;
  #restarting: NodeJS.Timeout | undefined;
  #flushing: NodeJS.Timeout | undefined;
  #lines: string[] = [];
  #loose = 0;
  #chunks: Buffer[] = [];
  #length = 0;
  #records = 0;
  #first = 0;
  #last = 0;
  #skipped = new Map<string, { readonly at: number; readonly entries: Entry[] }>();
  #moments: Moment[] = [];
  /** What the thread has not written yet, in characters. */
  #waiting = 0;
  #lost = 0;
  #problem: string | undefined;
  #coverage: Coverage | undefined;
  #closed = false;

  constructor({ log, ...options }: TraceOptions) {
    this.#log = log;
    this.#options = { ...options, startedAt: Date.now() };
    this.report =
      options.keepMs > 0
        ? {
            request: ({ topic, entries, verdicts, receipt, at }) => {
              if (verdicts === 'split') return;
              const taken: Entry[] = [];
              for (let index = 0; index < entries.length; index++) {
                const notification = entries[index];
                if (!notification || verdicts[index]) continue;
                const { eventId, at: eventAt, names, orderKey } = notification;
                const messageId = receipt?.messageIds[index];
                taken.push(
                  messageId === undefined
                    ? [eventId, eventAt, names ?? [orderKey]]
                    : [eventId, eventAt, names ?? [orderKey], messageId],
                );
              }
              if (taken.length > 0) this.#add(deliveredLine(at, topic, receipt, taken), taken.length, at);
            },
            skipped: (event, reason) => {
              const { id, at: eventAt } = event;
              const group = this.#skipped.get(reason) ?? { at: Date.now(), entries: [] };
              if (group.entries.length === 0) this.#skipped.set(reason, group);
              group.entries.push([id, eventAt, namesOf(event)]);
              this.#flushSoon();
            },
            deadLetter: ({ eventId, topic, reason, content }) => {
              const found =
                content.kind === 'notification'
                  ? {
                      names: content.notification.names ?? [content.notification.orderKey],
                      eventAt: content.notification.at,
                    }
                  : letterNames(content.event);
              const entry: Entry = [eventId, found.eventAt ?? null, found.names];
              const at = Date.now();
              this.#add(deadLine(at, topic, reason, entry), 1, at);
            },
          }
        : { request() {}, skipped() {}, deadLetter() {} };
    this.#start();
  }

  readonly state = (): TraceState => {
    const { keepMs, maxBytes } = this.#options;
    const { since, bytes = 0 } = this.#coverage ?? {};
    return { on: keepMs > 0, keepMs, maxBytes, since, bytes, problem: this.#problem, lost: this.#lost };
  };

  async find(asked: Asked): Promise<Found> {
    const outbox = await this.#questions.ask<InOutbox>((id) => ({ kind: 'outbox', id, asked }));
    // What left the outbox while that was looked through is in here by now.
    this.#flush();
    const record = await this.#questions.ask<InRecord>((id) => ({ kind: 'record', id, asked }));
    return findAll(asked, outbox, record, this.state());
  }

  history(): Promise<History> {
    this.#flush();
    return this.#questions.ask<History>((id) => ({ kind: 'history', id }));
  }

  span(span: Span): void {
    this.#post({ kind: 'span', span });
  }

  moment(moment: Moment): void {
    this.#moments.push(moment);
    this.#flushSoon();
  }

  async close(): Promise<void> {
    this.#flush();
    this.#closed = true;
    clearTimeout(this.#restarting);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, STOP_MS);
    });
    const closed = this.#questions.ask((id) => ({ kind: 'close', id })).catch(() => undefined);
    await Promise.race([closed, late]);
    clearTimeout(timer);
    await this.#worker?.terminate();
  }

  #add(line: string, records: number, at: number): void {
    if (this.#records === 0) this.#first = at;
    this.#last = at;
    this.#lines.push(line);
    this.#loose += line.length;
    this.#length += line.length;
    this.#records += records;
    if (this.#loose >= LOOSE_LENGTH) this.#bundle();
    if (this.#length >= FLUSH_LENGTH) this.#flush();
    else this.#flushSoon();
  }

  #bundle(): void {
    if (this.#lines.length > 0) this.#chunks.push(Buffer.from(this.#lines.join('\n')));
    this.#lines = [];
    this.#loose = 0;
  }

  #flushSoon(): void {
    this.#flushing ??= setTimeout(() => this.#flush(), FLUSH_MS).unref();
  }

  #flush(): void {
    clearTimeout(this.#flushing);
    this.#flushing = undefined;
    const skipped = this.#skipped;
    this.#skipped = new Map();
    for (const [reason, { at, entries }] of skipped) {
      const line = skippedLine(at, reason, entries);
      if (this.#records === 0) this.#first = at;
      this.#first = Math.min(this.#first, at);
      this.#last = Math.max(this.#last, at);
      this.#lines.push(line);
      this.#length += line.length;
      this.#records += entries.length;
    }
    if (this.#moments.length > 0) this.#post({ kind: 'moments', moments: this.#moments });
    this.#moments = [];
    if (this.#records === 0) return;
    this.#bundle();
    const portion = {
      text: this.#chunks.map(String).join('\n'),
      records: this.#records,
      from: Math.min(this.#first, this.#last),
      to: Math.max(this.#first, this.#last),
    };
    const bytes = this.#length;
    this.#chunks = [];
    this.#length = 0;
    this.#records = 0;
    if (this.#waiting > MOST_WAITING || !this.#worker) {
      this.#lost += portion.records;
      return;
    }
    this.#waiting += bytes;
    this.#post({ kind: 'append', portion, bytes });
  }

  #post(message: ToKeeper): boolean {
    this.#worker?.postMessage(message);
    return this.#worker !== undefined;
  }

  #start(): void {
    // Beside this file, with its extension: TypeScript in a checkout, JavaScript in the package.
    const script = new URL(`worker${path.extname(import.meta.url)}`, import.meta.url);
    const worker = new Worker(script, { workerData: this.#options, name: 'trace' });
    worker.unref();
    worker.on('message', (message: FromKeeper) => this.#hear(message));
    worker.on('error', (error) => this.#ended(messageOf(error)));
    worker.on('exit', () => this.#ended('the thread ended'));
    this.#worker = worker;
    this.#waiting = 0;
  }

  #ended(problem: string): void {
    this.#worker = undefined;
    this.#questions.failAll(problem);
    if (this.#closed || this.#restarting) return;
    this.#note(problem);
    this.#restarting = setTimeout(() => {
      this.#restarting = undefined;
      this.#start();
    }, RESTART_MS).unref();
  }

  #hear(message: FromKeeper): void {
    if (message.kind === 'done') {
      this.#waiting -= message.bytes;
      this.#lost += message.lost;
    } else if (message.kind === 'state') {
      this.#coverage = message.coverage ?? this.#coverage;
      this.#note(message.problem);
    } else if (message.kind === 'aside') {
      const { problem, to } = message;
      this.#log.error({ problem, to }, 'the record of deliveries was of no use; it is put aside, and a new one begun');
    } else this.#questions.answered(message);
  }

  #note(problem: string | undefined): void {
    if (problem === this.#problem) return;
    const { file } = this.#options;
    this.#problem = problem;
    if (problem === undefined) this.#log.info({ file, lost: this.#lost }, 'the record of deliveries is written again');
    else
      this.#log.error(
        { file, problem },
        "the record of deliveries can't be written; deliveries go on, and `find` doesn't know of them",
      );
  }
}
