/**
 * The daemon's side of the record: notes the outcome of events and, several times a second, sends them to the thread
 * that writes the record.
 *
 * Maintained invariants:
 * - A request to the sink costs one line of text here, and no I/O.
 * - The backlog for the thread is bounded; records beyond it are lost, and counted.
 * - A fault of the record never affects deliveries.
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

/** Interval for sending records, in milliseconds, and the most bytes that wait until then. */
const FLUSH_MS = 250;
const BUFFER_BYTES = 1_048_576;
const COPIED = 65_536;
const LINE_FEED = 10;
/** Limit of the backlog for the thread, in bytes. */
const MOST_WAITING = 33_554_432;
/** The thread's lines are short-lived: with as large a young generation as the main thread's it takes 25 MB more. */
const LIMITS = { maxYoungGenerationSizeMb: 8 };
/** Delay before restarting the thread, in milliseconds, and how long a stop waits for it. */
const RESTART_MS = 30_000;
const STOP_MS = 5_000;

export interface Trace {
  readonly report: Pick<Report, 'request' | 'skipped' | 'deadLetter'>;
  state(): TraceState;
  /** Finds the outcome of matching events. @throws Error on too many concurrent searches, or an unreadable outbox */
  find(asked: Asked): Promise<Found>;
  history(): Promise<History>;
  span(span: Span): void;
  moment(moment: Moment): void;
  /** Writes pending records. */
  close(): Promise<void>;
}

export interface TraceOptions extends Omit<KeeperOptions, 'startedAt'> {
  readonly log: Log;
  /** See {@link TraceState.elsewhere}. Default: no. */
  readonly elsewhere?: boolean;
}

const newBuffer = (): Buffer => Buffer.allocUnsafeSlow(BUFFER_BYTES);

/** Starts the thread; the daemon starts even without a working record. */
export function startTrace(options: TraceOptions): Trace {
  return new RunningTrace(options);
}

class RunningTrace implements Trace {
  readonly report: Trace['report'];
  readonly #log: Log;
  readonly #options: KeeperOptions;
  readonly #elsewhere: boolean;
  readonly #questions = createQuestions((message) => this.#post(message));
  #worker: Worker | undefined;
  #restarting: NodeJS.Timeout | undefined;
  #flushing: NodeJS.Timeout | undefined;
  #buffer = newBuffer();
  /** A returned buffer: memory allocated anew each time is freed late. */
  #spare: Buffer | undefined;
  /** Bytes of it in use. */
  #used = 0;
  #records = 0;
  #first = 0;
  #last = 0;
  #skipped = new Map<string, { readonly at: number; readonly entries: Entry[] }>();
  #moments: Moment[] = [];
  /** Bytes that the thread has not written yet. */
  #waiting = 0;
  #lost = 0;
  #problem: string | undefined;
  #coverage: Coverage | undefined;
  #closed = false;

  constructor({ log, elsewhere = false, ...options }: TraceOptions) {
    this.#log = log;
    this.#elsewhere = elsewhere;
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
    return {
      on: keepMs > 0,
      keepMs,
      maxBytes,
      since,
      bytes,
      problem: this.#problem,
      lost: this.#lost,
      elsewhere: this.#elsewhere,
    };
  };

  async find(asked: Asked): Promise<Found> {
    const outbox = await this.#questions.ask<InOutbox>((id) => ({ kind: 'outbox', id, asked }));
    // Everything that left the outbox during the search is in here by now.
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

  /**
   * Encoded at once instead of kept as text until it is sent: objects that live a quarter of a second are moved twice
   * by the garbage collector.
   */
  #add(line: string, records: number, at: number): void {
    // A UTF-16 code unit takes three bytes of UTF-8 at most.
    const most = line.length * 3 + 1;
    if (this.#used + most > this.#buffer.length) this.#hand();
    if (most > this.#buffer.length) this.#buffer = Buffer.allocUnsafeSlow(most);
    if (this.#used > 0) this.#buffer[this.#used++] = LINE_FEED;
    this.#used += this.#buffer.write(line, this.#used);
    this.#first = this.#records === 0 ? at : Math.min(this.#first, at);
    this.#last = this.#records === 0 ? at : Math.max(this.#last, at);
    this.#records += records;
    this.#flushSoon();
  }

  #flushSoon(): void {
    this.#flushing ??= setTimeout(() => this.#flush(), FLUSH_MS).unref();
  }

  #flush(): void {
    clearTimeout(this.#flushing);
    this.#flushing = undefined;
    const skipped = this.#skipped;
    this.#skipped = new Map();
    for (const [reason, { at, entries }] of skipped) this.#add(skippedLine(at, reason, entries), entries.length, at);
    if (this.#moments.length > 0) this.#post({ kind: 'moments', moments: this.#moments });
    this.#moments = [];
    this.#hand();
  }

  /** Sends the buffer. */
  #hand(): void {
    if (this.#records === 0) return;
    const [records, from, to, used] = [this.#records, this.#first, this.#last, this.#used];
    this.#records = 0;
    this.#used = 0;
    if (this.#waiting > MOST_WAITING || !this.#worker) {
      this.#lost += records;
      return;
    }
    this.#waiting += used;
    // A large buffer is transferred and replaced; a small one is copied.
    const content = used > COPIED ? this.#buffer.subarray(0, used) : new Uint8Array(this.#buffer.subarray(0, used));
    if (used > COPIED) {
      this.#buffer = this.#spare ?? newBuffer();
      this.#spare = undefined;
    }
    const message: ToKeeper = { kind: 'append', portion: { content, records, from, to } };
    this.#worker.postMessage(message, [content.buffer as ArrayBuffer]);
  }

  #post(message: ToKeeper): boolean {
    this.#worker?.postMessage(message);
    return this.#worker !== undefined;
  }

  #start(): void {
    // Beside this file, with its extension: TypeScript in a checkout, JavaScript in the package.
    const script = new URL(`worker${path.extname(import.meta.url)}`, import.meta.url);
    let worker: Worker;
    try {
      worker = new Worker(script, { workerData: this.#options, name: 'trace', resourceLimits: LIMITS });
    } catch (error) {
      this.#ended(messageOf(error));
      return;
    }
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
      if (message.memory.byteLength === BUFFER_BYTES) this.#spare = Buffer.from(message.memory);
    } else if (message.kind === 'state') {
      this.#coverage = message.coverage ?? this.#coverage;
      this.#note(message.problem);
    } else if (message.kind === 'aside') {
      const { problem, to } = message;
      this.#log.error({ problem, to }, "can't use the record of deliveries; moved it aside and started a new one");
    } else this.#questions.answered(message);
  }

  #note(problem: string | undefined): void {
    if (problem === this.#problem) return;
    const { file } = this.#options;
    this.#problem = problem;
    if (problem === undefined) this.#log.info({ file, lost: this.#lost }, 'recording deliveries again');
    else
      this.#log.error(
        { file, problem },
        "can't write the record of deliveries; deliveries continue, but `find` will not know them",
      );
  }
}
