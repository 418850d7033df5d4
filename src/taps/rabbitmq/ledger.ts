/**
 * The ledger of sessions: counts of online sessions, stored in a queue beside the events' queue, so that the daemon
 * which reads the events next continues with them.
 *
 * The queue is a log: a snapshot, followed by the batches' changes. Compaction reads all of it, writes a new snapshot
 * behind it, waits for the confirm, and only then acknowledges the old records. A crash in between leaves both
 * snapshots, of which the newest whole one counts (records.ts). The queue has a single active consumer, so no one else
 * reads it.
 */
import { randomUUID } from 'node:crypto';
import type { ChannelModel, ConsumeMessage } from 'amqplib';
import { progressing } from '../../rabbitmq/answers.ts';
import { isBlocked, openChannel, openConfirmChannel } from '../../rabbitmq/connection.ts';
import { ExplainedError } from '../../rabbitmq/explain.ts';
import { FORMAT_HEADER, problemOfFormat } from '../../rabbitmq/format.ts';
import { createReader, type LedgerRecord, type LedgerState, MOST_SEEN, snapshotOf } from './records.ts';
import type { SessionCount, Sessions } from './sessions.ts';

/** Compacts the log when the batches' changes are larger than this and than twice the snapshot. */
const LEAST_LOG_BYTES = 4_194_304;

export interface Ledger {
  readonly sessions: Sessions;
  /** Fingerprints of the newest counted presence events. */
  readonly seen: readonly string[];
  /** Unreadable records, which were skipped. */
  readonly unreadable: number;
  /** Stores a batch's changes; resolves when the broker has confirmed them. */
  append(counts: readonly SessionCount[], seen: readonly string[]): Promise<void>;
  /** Notes that all counted events are acknowledged, so that none comes again. */
  end(): Promise<void>;
}

/**
 * Reads the ledger and begins a term in it: from then on other daemons' records are ignored.
 * @param lost called when a channel ends; then nothing more can be stored
 * @throws ExplainedError when a newer release wrote to it
 */
export async function openLedger(
  connection: ChannelModel,
  queue: string,
  lost: (error?: Error) => void,
  leastLogBytes = LEAST_LOG_BYTES,
): Promise<Ledger> {
  const isPaused = () => isBlocked(connection);
  const channel = await openConfirmChannel(connection, lost);
  const confirms = () => progressing(channel.waitForConfirms(), { what: 'confirm the count of sessions', isPaused });
  const write = async (records: Iterable<LedgerRecord>): Promise<number> => {
    let bytes = 0;
    for (const record of records) {
      const body = Buffer.from(JSON.stringify(record));
      bytes += body.length;
      // Without a limit, memory would hold a whole snapshot of millions.
      const options = { persistent: true, correlationId: record.term, headers: FORMAT_HEADER };
      const sent = channel.sendToQueue(queue, body, options);
      if (!sent) await confirms();
    }
    await confirms();
    return bytes;
  };

  let term = '';
  let snapshotBytes = 0;
  let logBytes = 0;
  const rewrite = async (stateOf: (read: LedgerState) => LedgerState) => {
    const next = randomUUID();
    const reader = createReader();
    const reading = await readUntil(connection, queue, next, reader.read, lost, () =>
      write([{ term: next, kind: 'fence' }]),
    );
    const state = stateOf(reader.state());
    snapshotBytes = await write(snapshotOf(state, next));
    await reading.acknowledge();
    logBytes = 0;
    term = next;
    return { ...state, unreadable: reader.state().unreadable };
  };

  const { sessions, seen: counted, unreadable } = await rewrite((read) => read);
  let seen = counted;
  return {
    sessions,
    unreadable,
    get seen() {
      return seen;
    },
    async append(counts, more) {
      seen = [...seen, ...more].slice(-MOST_SEEN);
      logBytes += await write([{ term, kind: 'delta', counts: [...counts], seen: [...more] }]);
      if (logBytes > Math.max(leastLogBytes, 2 * snapshotBytes)) await rewrite(() => ({ term, sessions, seen }));
    },
    async end() {
      seen = [];
      await write([{ term, kind: 'end' }]);
    },
  };
}

/**
 * Reads a queue up to the fence that `send` writes at its end. The caller must acknowledge the records, or they come
 * again.
 */
async function readUntil(
  connection: ChannelModel,
  queue: string,
  fence: string,
  read: (body: Buffer) => void,
  lost: (error?: Error) => void,
  send: () => Promise<unknown>,
): Promise<{ acknowledge(): Promise<void> }> {
  const { promise, resolve, reject } = Promise.withResolvers<ConsumeMessage>();
  // It may be rejected while the fence is on its way.
  promise.catch(() => undefined);
  const channel = await openChannel(connection, (error) => {
    reject(error ?? new Error('channel closed'));
    lost(error);
  });
  let done = false;
  let readAt = 0;
  await channel.consume(queue, (message) => {
    readAt = performance.now();
    if (!message) return reject(new Error(`the queue "${queue}" was deleted`));
    // Records behind the fence are newer: they stay.
    if (done) return;
    const problem = problemOfFormat(message.properties.headers, `a record in the queue "${queue}"`);
    if (problem) {
      done = true;
      return reject(new ExplainedError(problem));
    }
    if (message.properties.correlationId === fence) {
      done = true;
      resolve(message);
    } else read(message.content);
  });
  await send();
  const last = await progressing(promise, {
    what: 'deliver the count of sessions',
    isPaused: () => isBlocked(connection),
    lastAt: () => readAt,
  });
  return {
    async acknowledge() {
      channel.ack(last, true);
      await channel.close();
    },
  };
}
