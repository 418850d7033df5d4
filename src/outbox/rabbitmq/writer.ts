/**
 * Writes lines to queues, in parcels, each confirmed by the broker.
 *
 * Maintained invariants:
 * - Each queue has at most one unconfirmed parcel. New lines gather in the next one; at high load they also gather for
 *   queues that have none.
 * - So a queue never gets a later line of a write after an earlier one was refused: a repeated write repeats all of it,
 *   and consumers may assume that they have seen everything before a line.
 * - An unconfirmed parcel blocks its queue until the answer comes or the channel ends. The answer of a queue whose leader
 *   was lost may never come, so another channel is asked for then.
 */
import type { ConfirmChannel } from 'amqplib';
import { PusherError } from '../../errors.ts';
import { closeSoon } from '../../rabbitmq/connection.ts';
import { FORMAT_HEADER } from '../../rabbitmq/format.ts';
import { Departure } from './departure.ts';
import { MOST_LENGTH, MOST_NOTIFICATIONS } from './parcel.ts';

interface Job {
  readonly lines: readonly string[];
  /** The first line without a parcel. */
  next: number;
  /** Unconfirmed lines. */
  left: number;
  failed: boolean;
  readonly done: () => void;
  readonly fail: (error: PusherError) => void;
}

interface Line {
  readonly queue: string;
  waiting: Job[];
  /** The unconfirmed parcel's jobs, with each job's lines in it. */
  underWay: readonly (readonly [Job, number])[] | undefined;
  /** Why new lines are refused, after a parcel's timeout. */
  stalled: PusherError | undefined;
}

/** The unconfirmed parcel of a queue. */
interface Parcel {
  readonly line: Line;
  readonly jobs: NonNullable<Line['underWay']>;
  readonly messageId: string;
  readonly late: NodeJS.Timeout;
  readonly count: number;
  readonly content: Buffer;
  tries: number;
}

export interface WriterOptions {
  /** Makes the ids of parcels unique among daemons. */
  readonly daemon: string;
  readonly now: () => number;
  /** A parcel is in its queue. */
  readonly confirmed: (queue: string, notifications: number, bytes: number) => void;
  /** A queue was deleted. */
  readonly gone: (queue: string) => void;
  /** A parcel stays unconfirmed for so long that it has to be given up, with its channel. */
  readonly unanswered?: () => void;
  /** How long the broker may take for a confirm before the write fails, in milliseconds. Default: 10 s. */
  readonly confirmMs?: number | undefined;
}

/** The default of `confirmMs`: adapters give up after 30 s. */
const CONFIRM_MS = 10_000;

/**
 * How often a parcel that is refused is sent before it fails, and the pause between, longer each time, in milliseconds.
 */
const TRIES = 5;
const AGAIN_MS = 30;

export class Writer {
  readonly #options: WriterOptions;
  readonly #lines = new Map<string, Line>();
  /** Ids of parcels returned because their queue is gone. */
  readonly #returned = new Set<string>();
  /** Queues with lines that gather. */
  readonly #gathering = new Set<Line>();
  readonly #departure = new Departure(() => this.#sendGathered());
  #channel: ConfirmChannel | undefined;
  #parcels = 0;

  constructor(options: WriterOptions) {
    this.#options = options;
  }

  /** Whether anything is unconfirmed. */
  get busy(): boolean {
    return [...this.#lines.values()].some(({ underWay, waiting }) => underWay || waiting.length > 0);
  }

  /** Uses this channel from now on. What the former one left unconfirmed fails, but may be in its queue. */
  attach(channel: ConfirmChannel): void {
    const former = this.#channel;
    if (former) {
      this.detach(new PusherError('OUTBOX_UNUSABLE', 'outbox: RabbitMQ has not confirmed messages in time'));
      closeSoon(former);
    }
    this.#channel = channel;
    channel.on('return', ({ properties }) => this.#returned.add(String(properties.messageId)));
  }

  /** The channel ended: unconfirmed writes fail, but may be in their queues. */
  detach(error: PusherError): void {
    this.#channel = undefined;
    this.#returned.clear();
    this.#gathering.clear();
    this.#departure.reset();
    const lines = [...this.#lines.values()];
    this.#lines.clear();
    for (const line of lines) {
      for (const [job] of line.underWay ?? []) fail(job, error);
      for (const job of line.waiting) fail(job, error);
      // A parcel that waits to be sent once more must not reach the next channel: its writers have failed already.
      line.underWay = undefined;
    }
  }

  /**
   * Writes lines to a queue, in order; resolves when all are confirmed.
   * @throws PusherError OUTBOX_FULL, OUTBOX_UNUSABLE; then the first lines may be in the queue
   */
  write(queue: string, lines: readonly string[]): Promise<void> {
    const line = this.#lineOf(queue);
    const writing = enqueue(line, lines);
    if (!line.underWay && !line.stalled) this.#send(line);
    return writing;
  }

  /** Writes a commit's notifications to several queues, as {@link write} does, but gathers them at high load. */
  async gather(commit: ReadonlyMap<string, readonly string[]>): Promise<void> {
    let notifications = 0;
    const writing = [...commit].map(([queue, lines]) => {
      const line = this.#lineOf(queue);
      if (!line.underWay) this.#gathering.add(line);
      notifications += lines.length;
      return enqueue(line, lines);
    });
    this.#departure.arrived(notifications);
    for (const each of await Promise.allSettled(writing)) if (each.status === 'rejected') throw each.reason;
  }

  #sendGathered(): void {
    for (const line of this.#gathering) if (!line.underWay) this.#send(line);
    this.#gathering.clear();
  }

  #lineOf(queue: string): Line {
    const known = this.#lines.get(queue);
    if (known) return known;
    const line: Line = { queue, waiting: [], underWay: undefined, stalled: undefined };
    this.#lines.set(queue, line);
    return line;
  }

  #send(line: Line): void {
    const { lines, jobs } = gather(line);
    if (lines.length === 0) return;
    line.underWay = jobs;
    const messageId = `${this.#options.daemon}.${++this.#parcels}`;
    this.#departure.sent(lines.length);
    const late = setInterval(() => this.#late(parcel), this.#options.confirmMs ?? CONFIRM_MS).unref();
    const parcel: Parcel = {
      line,
      jobs,
      messageId,
      late,
      count: lines.length,
      content: Buffer.from(lines.join('\n')),
      tries: 0,
    };
    this.#publish(parcel);
  }

  #publish(parcel: Parcel): void {
    const channel = this.#channel;
    const { line, messageId, late, count, content } = parcel;
    const headers = { ...FORMAT_HEADER, n: count, at: this.#options.now() };
    const options = { mandatory: true, persistent: true, messageId, headers };
    try {
      if (!channel) throw new Error('no channel');
      channel.publish('', line.queue, content, options, (refused: unknown) => {
        // Where the channel ended, amqplib answers before it says so; `detach` fails the jobs with the reason.
        if (line.underWay === parcel.jobs && this.#channel === channel && !endedWithChannel(refused))
          this.#answered(parcel, Boolean(refused));
        else clearInterval(late);
      });
    } catch {
      // The channel has just ended; `detach` follows with the reason.
      clearInterval(late);
      if (!channel) this.detach(new PusherError('OUTBOX_UNUSABLE', 'outbox: not connected to RabbitMQ'));
    }
  }

  #answered(parcel: Parcel, refused: boolean): void {
    const { line, jobs, messageId, late, count, content } = parcel;
    const returned = this.#returned.delete(messageId);
    // A queue without a leader for a moment refuses too. With the same id it is not there twice, whatever became of it.
    if (refused && !returned && ++parcel.tries < TRIES) {
      setTimeout(() => {
        if (line.underWay === jobs) this.#publish(parcel);
      }, AGAIN_MS * parcel.tries);
      return;
    }
    clearInterval(late);
    line.underWay = undefined;
    line.stalled = undefined;
    if (returned) this.#lost(line, jobs);
    else if (refused) refuse(jobs, full(line.queue));
    else {
      this.#options.confirmed(line.queue, count, content.length);
      for (const [job, share] of jobs) {
        job.left -= share;
        if (job.left === 0 && !job.failed) job.done();
      }
    }
    if (returned || refused) line.waiting = line.waiting.filter(({ failed }) => !failed);
    if (line.waiting.length > 0) {
      this.#gathering.add(line);
      this.#departure.arrived(1);
    }
    this.#departure.answered(count);
  }

  /** A parcel is unconfirmed after another interval. */
  #late({ line, jobs, late }: Parcel): void {
    if (line.underWay !== jobs) clearInterval(late);
    else if (line.stalled) this.#options.unanswered?.();
    else this.#stall(line);
  }

  #stall(line: Line): void {
    line.stalled = new PusherError(
      'OUTBOX_UNUSABLE',
      `outbox: RabbitMQ has not confirmed messages to ${line.queue} in time: more than half of its nodes must run, without an alarm`,
    );
    for (const [job] of line.underWay ?? []) fail(job, line.stalled);
    for (const job of line.waiting) fail(job, line.stalled);
    line.waiting = [];
  }

  #lost({ queue }: Line, jobs: NonNullable<Line['underWay']>): void {
    this.#options.gone(queue);
    refuse(jobs, new PusherError('OUTBOX_UNUSABLE', `outbox: the queue ${queue} was deleted; declaring it again`));
  }
}

function enqueue({ stalled, waiting }: Line, lines: readonly string[]): Promise<void> {
  if (stalled) return Promise.reject(stalled);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  waiting.push({ lines, next: 0, left: lines.length, failed: false, done: resolve, fail: reject });
  return promise;
}

/** Takes what fits into one parcel. */
function gather(line: Line): { lines: string[]; jobs: (readonly [Job, number])[] } {
  const lines: string[] = [];
  const jobs: (readonly [Job, number])[] = [];
  let length = 0;
  for (let job = line.waiting[0]; job; job = line.waiting[0]) {
    const first = job.next;
    for (let text = job.lines[job.next]; text !== undefined; text = job.lines[job.next]) {
      if (lines.length > 0 && (lines.length >= MOST_NOTIFICATIONS || length + text.length > MOST_LENGTH)) break;
      lines.push(text);
      length += text.length;
      job.next += 1;
    }
    if (job.next > first) jobs.push([job, job.next - first]);
    if (job.next < job.lines.length) break;
    line.waiting.shift();
  }
  return { lines, jobs };
}

function fail(job: Job, error: PusherError): void {
  if (job.failed) return;
  job.failed = true;
  job.fail(error);
}

/** Whether amqplib answers for a channel that ended; for a nack of the broker it says `message nacked`. */
const endedWithChannel = (refused: unknown) => refused instanceof Error && refused.message === 'channel closed';

const refuse = (jobs: NonNullable<Line['underWay']>, error: PusherError) => {
  for (const [job] of jobs) fail(job, error);
};

const full = (queue: string) =>
  new PusherError(
    'OUTBOX_FULL',
    `outbox: RabbitMQ refuses messages to ${queue}: it is full (its x-max-length-bytes is outbox.max_bytes divided by the partitions), or too few nodes run for it to have a leader`,
  );
