/**
 * Reads the queue over one connection: passes batches on, counts sessions, and acknowledges what is stored.
 *
 * Maintained invariants:
 * - One batch is under way at a time, in the order of the queue; the broker lets one consumer read at a time.
 * - A batch is acknowledged when the receiver has its events and the ledger has its counts, in this order: after a
 *   failure in between it comes again, and the ledger recognises it.
 * - The ledger is read when the first message arrives, because only then this daemon is known to be the active reader.
 */
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';
import { PusherError } from '../../errors.ts';
import { isMalformed, type MalformedEvent, type NewEvent } from '../../event.ts';
import type { Log } from '../../log.ts';
import { openChannel } from '../../rabbitmq/connection.ts';
import { ExplainedError, explain } from '../../rabbitmq/explain.ts';
import type { Receive } from '../tap.ts';
import { type Ledger, openLedger } from './ledger.ts';
import { readMessage } from './message.ts';
import { countedAmong, MOST_SEEN } from './records.ts';
import type { SessionCount } from './sessions.ts';
import { ledgerOf, type Topology } from './topology.ts';

/** Prefetch count, and most messages in a batch. */
const PREFETCH = MOST_SEEN;
const BATCH = 500;
/** Most bytes of a batch's messages, unless it has only one. */
const BATCH_BYTES = 4_194_304;
/** How long to wait for further redeliveries, in milliseconds; the broker sends them at once. */
const GATHER_MS = 250;
/** Pauses before a refused batch is retried, in milliseconds. */
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;
/**
 * After this long, the queue is released for a while: another daemon's outbox may accept the batch, and RabbitMQ closes
 * channels that hold messages for half an hour.
 */
const GIVE_UP_MS = 60_000;

export interface ReaderOptions extends Topology {
  /** The name of the source, in batches. */
  readonly source: string;
  readonly receive: Receive;
  readonly log: Log;
  readonly giveUpMs?: number | undefined;
}

export interface Reader {
  /** Unacknowledged messages. */
  readonly held: number;
  /** Number of known online full JIDs; undefined before it has read the ledger. */
  readonly sessions: number | undefined;
  /** Why batches aren't accepted at the moment. */
  readonly putOff: string | undefined;
  /** Finishes the current batch and releases the queue in an orderly way. */
  stop(): Promise<void>;
}

/** A message and the result of parsing it. */
interface Taken {
  readonly message: ConsumeMessage;
  readonly event: NewEvent | MalformedEvent | undefined;
  /** For a presence event: the fingerprint that identifies its redelivery. */
  readonly fingerprint: string | undefined;
}

/** @param lost called once when it can't continue, with the reason if there is one: its connection is unusable */
export async function startReader(
  connection: ChannelModel,
  options: ReaderOptions,
  lost: (error?: Error) => void,
): Promise<Reader> {
  const reader = new QueueReader(connection, options, lost);
  await reader.start();
  return reader;
}

class QueueReader implements Reader {
  readonly #connection: ChannelModel;
  readonly #options: ReaderOptions;
  readonly #fail: (error?: Error) => void;
  readonly #stopping = new AbortController();
  readonly #pending: Taken[] = [];
  #held = 0;
  #channel: Channel | undefined;
  #ledger: Ledger | undefined;
  #putOff: string | undefined;
  #running: Promise<void> = Promise.resolve();
  #isRunning = false;

  constructor(connection: ChannelModel, options: ReaderOptions, lost: (error?: Error) => void) {
    this.#connection = connection;
    this.#options = options;
    let over = false;
    this.#fail = (error) => {
      if (over || this.#stopping.signal.aborted) return;
      over = true;
      this.#stopping.abort();
      lost(error);
    };
  }

  get held(): number {
    return this.#held;
  }

  get sessions(): number | undefined {
    return this.#ledger?.sessions.size;
  }

  get putOff(): string | undefined {
    return this.#putOff;
  }

  async start(): Promise<void> {
    this.#channel = await openChannel(this.#connection, this.#fail);
    await this.#channel.prefetch(PREFETCH);
    await this.#channel.consume(this.#options.queue, (message) => this.#take(message));
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    // The broker handles the acknowledgements before it answers the close.
    await this.#channel?.close();
    if (this.#ledger) await this.#ledger.end();
  }

  #take(message: ConsumeMessage | null): void {
    if (!message) this.#fail(new Error(`the queue "${this.#options.queue}" was deleted`));
    if (!message || this.#stopping.signal.aborted) return;
    const { fields, properties, content: body } = message;
    const { exchange, routingKey } = fields;
    const contentEncoding = properties.contentEncoding as string | undefined;
    const delivered = { exchange, routingKey, body, contentEncoding };
    const event = readMessage(delivered, this.#options.exchanges, arrivalOf(message) ?? Date.now());
    const isPresence = event && !isMalformed(event) && event.kind === 'presence';
    this.#pending.push({ message, event, fingerprint: isPresence ? fingerprintOf(message) : undefined });
    this.#held += 1;
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#running = this.#run()
      .catch((error: unknown) => this.#fail(error as Error))
      .finally(() => {
        this.#isRunning = false;
      });
  }

  async #run(): Promise<void> {
    let again: ReadonlySet<Taken> = new Set();
    if (!this.#ledger) again = await this.#begin();
    // Messages of one turn of the event loop make one batch.
    while (this.#pending.length > 0 && !this.#stopping.signal.aborted) {
      const batch = this.#pending.splice(0, batchLength(this.#pending));
      if (!(await this.#process(batch, again))) return;
    }
  }

  /** Reads the ledger; returns which of the received messages are counted already. */
  async #begin(): Promise<ReadonlySet<Taken>> {
    const { queue, log } = this.#options;
    // Needs all redeliveries: only together do they show which are counted.
    while (this.#pending.every(({ message }) => message.fields.redelivered) && this.#pending.length < PREFETCH) {
      const before = this.#pending.length;
      await this.#pause(GATHER_MS);
      if (this.#pending.length === before || this.#stopping.signal.aborted) break;
    }
    try {
      this.#ledger = await openLedger(this.#connection, ledgerOf(queue), this.#fail);
    } catch (error) {
      if (explain(error).kind === 'newer') await this.#wait(error);
      throw error;
    }
    const { sessions, seen, unreadable } = this.#ledger;
    if (unreadable > 0)
      log.error({ queue: ledgerOf(queue), unreadable }, 'ignored invalid records of the count of sessions');
    const again = this.#pending.filter(({ message, fingerprint }) => message.fields.redelivered && fingerprint);
    const counted = countedAmong(
      seen,
      again.map(({ fingerprint }) => fingerprint as string),
    );
    log.info({ queue, sessions: sessions.size, again: counted }, 'reading the queue');
    return new Set(again.slice(0, counted));
  }

  /** Says that another release has to read the queue, and gives it up after a while. */
  async #wait(error: unknown): Promise<void> {
    const { reason, advice } = explain(error);
    this.#putOff = `${reason}; ${advice}`;
    this.#options.log.error({ queue: this.#options.queue, problem: reason, advice }, 'events wait in the queue');
    await this.#pause(this.#options.giveUpMs ?? GIVE_UP_MS);
  }

  /** Passes a batch on and acknowledges it; returns whether it did. */
  async #process(batch: readonly Taken[], again: ReadonlySet<Taken>): Promise<boolean> {
    const ledger = this.#ledger as Ledger;
    const changed = new Set<string>();
    const seen: string[] = [];
    const events: (NewEvent | MalformedEvent)[] = [];
    for (const taken of batch) {
      const { event, fingerprint } = taken;
      // Counted presence is in the outbox too.
      if (!event || again.has(taken)) continue;
      if (isMalformed(event) || event.kind !== 'presence') {
        events.push(event);
        continue;
      }
      const sessions = ledger.sessions.change(event.jid, event.present);
      changed.add(event.jid);
      seen.push(fingerprint as string);
      events.push({ ...event, sessions: event.sessions ?? sessions });
    }
    if (events.length > 0 && !(await this.#handOver(events))) return false;
    if (seen.length > 0) {
      const counts = [...changed].map((jid): SessionCount => [jid, ledger.sessions.count(jid)]);
      await ledger.append(counts, seen);
    }
    this.#channel?.ack((batch.at(-1) as Taken).message, true);
    this.#held -= batch.length;
    return true;
  }

  /** Retries until the events are stored; returns false if it has to stop before. */
  async #handOver(events: readonly (NewEvent | MalformedEvent)[]): Promise<boolean> {
    const { source, receive, log, giveUpMs = GIVE_UP_MS } = this.#options;
    const since = Date.now();
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
      try {
        await receive({ tap: 'rabbitmq', source, events });
        this.#putOff = undefined;
        return true;
      } catch (error) {
        if (!(error instanceof PusherError)) throw error;
        if (this.#putOff === undefined)
          log.warn(
            { source, code: error.code, problem: error.message },
            'batch postponed: the broker keeps it, and the daemon retries',
          );
        this.#putOff = error.message;
      }
      if (Date.now() - since > giveUpMs) {
        const reason = `can't store events: ${this.#putOff}`;
        throw new ExplainedError({ kind: 'other', reason, advice: 'fix the outbox; the events wait in the queue' });
      }
      await this.#pause(pause);
      if (this.#stopping.signal.aborted) return false;
    }
  }

  /** Waits, but no longer than until the stop. */
  async #pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#stopping.signal }).catch(() => {});
  }
}

/** Number of received messages for the next batch. */
function batchLength(pending: readonly Taken[]): number {
  let bytes = 0;
  const end = pending.findIndex(({ message }, index) => {
    bytes += message.content.length;
    return index >= BATCH || (index > 0 && bytes > BATCH_BYTES);
  });
  return end < 0 ? pending.length : end;
}

/** When the broker received a message, if it is configured to add that time. */
function arrivalOf({ properties }: ConsumeMessage): number | undefined {
  const at: unknown = properties.headers?.timestamp_in_ms;
  return typeof at === 'number' ? at : undefined;
}

/** A fingerprint to recognise a message, which has no id. */
export function fingerprintOf(message: ConsumeMessage): string {
  const { exchange, routingKey } = message.fields;
  const hash = createHash('sha256');
  hash.update(`${exchange}\n${routingKey}\n${arrivalOf(message) ?? ''}\n`);
  hash.update(message.content);
  return hash.digest('base64url').slice(0, 16);
}
