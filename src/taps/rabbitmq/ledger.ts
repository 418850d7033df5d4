/**
 * The ledger of sessions: counts of who is online, kept in a queue beside the one that events come by, so that whichever
 * daemon gets that queue goes on with them.
 *
 * The queue is a log: a snapshot, and what batches changed since. To write it anew, all of it is read, a new snapshot is
 * written behind it and confirmed, and only then is what stands before acknowledged. A crash between leaves both, and the
 * newest whole one counts (records.ts). Nobody else reads meanwhile: the queue has a single active consumer.
 */
import { randomUUID } from 'node:crypto';
import type { ChannelModel, ConsumeMessage } from 'amqplib';
import { openChannel, openConfirmChannel } from '../../rabbitmq/connection.ts';
import { createReader, type LedgerRecord, type LedgerState, MOST_SEEN, snapshotOf } from './records.ts';
import type { SessionCount, Sessions } from './sessions.ts';

/** The log is written anew when what batches added is larger than this, and than twice the snapshot. */
const LEAST_LOG_BYTES = 4_194_304;

export interface Ledger {
  readonly sessions: Sessions;
  /** Fingerprints of the newest events of presence that are counted. */
  readonly seen: readonly string[];
  /** Records that can't be read, which were left out. */
  readonly unreadable: number;
  /** Keeps what a batch changed; resolves when the broker has it. */
  append(counts: readonly SessionCount[], seen: readonly string[]): Promise<void>;
  /** Notes that everything counted is acknowledged, so that nothing of it comes again. */
  end(): Promise<void>;
}

/**
 * Reads the ledger, and begins a term in it: from then on nobody else's records count.
 * @param lost called when a channel ends; then nothing more can be kept
 */
export async function openLedger(
  connection: ChannelModel,
  queue: string,
  lost: (error?: Error) => void,
  leastLogBytes = LEAST_LOG_BYTES,
): Promise<Ledger> {
  const channel = await openConfirmChannel(connection, lost);
  const write = async (records: Iterable<LedgerRecord>): Promise<number> => {
    let bytes = 0;
    for (const record of records) {
      const body = Buffer.from(JSON.stringify(record));
      bytes += body.length;
      // Unbounded, a snapshot of millions would wait in memory as a whole.
      const sent = channel.sendToQueue(queue, body, { persistent: true, correlationId: record.term });
      if (!sent) await channel.waitForConfirms();
    }
    await channel.waitForConfirms();
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

/** Reads a queue up to the fence that `send` puts at its end; what was read is to be acknowledged, or comes again. */
async function readUntil(
  connection: ChannelModel,
  queue: string,
  fence: string,
  read: (body: Buffer) => void,
  lost: (error?: Error) => void,
  send: () => Promise<unknown>,
): Promise<{ acknowledge(): Promise<void> }> {
  const { promise, resolve, reject } = Promise.withResolvers<ConsumeMessage>();
  const channel = await openChannel(connection, (error) => {
    reject(error ?? new Error('channel closed'));
    lost(error);
  });
  let done = false;
  await channel.consume(queue, (message) => {
    if (!message) return reject(new Error(`the queue "${queue}" was deleted`));
    // Behind the fence stands what is written meanwhile: it stays.
    if (done) return;
    if (message.properties.correlationId === fence) {
      done = true;
      resolve(message);
    } else read(message.content);
  });
  await send();
  const last = await promise;
  return {
    async acknowledge() {
      channel.ack(last, true);
      await channel.close();
    },
  };
}
