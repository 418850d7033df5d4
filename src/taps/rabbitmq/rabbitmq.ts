/**
 * The RabbitMQ tap: reads the events of MongooseIM's rabbit backend from our own queue. Any number of daemons may share
 * the queue: one reads at a time, and the next one continues where it stopped.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ChannelModel } from 'amqplib';
import { messageOf } from '../../errors.ts';
import { countOf } from '../../format.js';
import { type Log, SILENT } from '../../log.ts';
import { type Broker, closeConnection, connectBroker, openChannel, shownUrl } from '../../rabbitmq/connection.ts';
import type { TlsSource } from '../../rabbitmq/tls.ts';
import type { Receive, Tap, TapState } from '../tap.ts';
import type { Exchanges } from './exchanges.ts';
import { type Reader, startReader } from './reader.ts';
import { declare } from './topology.ts';

export interface RabbitTapSettings {
  /** `amqp://user:password@host:port/vhost` or `amqps:`; of one broker's nodes, tried in turn. */
  readonly urls: readonly string[];
  readonly tls?: TlsSource | undefined;
  /** Our queue; the ledger's queue has the same name with `.sessions` appended. */
  readonly queue: string;
  readonly exchanges: Exchanges;
  /** Reads a temporary queue, and so takes nothing from other daemons; for dry runs. */
  readonly temporary?: boolean | undefined;
  /** Default: no log. */
  readonly log?: Log | undefined;
  /** How long to retry a batch before another daemon may try, in milliseconds, for tests. */
  readonly giveUpMs?: number | undefined;
}

/** Interval for polling the queue's depth, in milliseconds. */
const DEPTH_MS = 5_000;
/** How long a stop waits for the batch under way and for the broker's answers, in milliseconds. */
const STOP_MS = 5_000;

/**
 * The tap that reads MongooseIM's events from RabbitMQ. An unreachable broker doesn't fail the start: the tap retries.
 */
export function rabbitTap(given: RabbitTapSettings): Tap {
  const settings = given.temporary ? { ...given, queue: `${given.queue}.${randomUUID()}` } : given;
  let running: RunningTap | undefined;
  const at = `${shownUrl(settings.urls[0] ?? '')} queue ${settings.queue}`;
  return {
    name: 'rabbitmq',
    async start(receive) {
      running = new RunningTap(settings, receive);
      await running.tried;
    },
    async stop() {
      const stopped = running;
      running = undefined;
      await stopped?.stop();
    },
    state: (): TapState =>
      running ? { at, ...running.state() } : { at: undefined, problem: { reason: 'does not read' } },
  };
}

class RunningTap {
  /** Settles after the first try to connect, successful or not. */
  readonly tried: Promise<void>;
  readonly #settings: RabbitTapSettings;
  readonly #receive: Receive;
  readonly #broker: Broker;
  readonly #stopping = new AbortController();
  #reader: Reader | undefined;
  /** Messages ready in the queue. */
  #ready: number | undefined;

  constructor(settings: RabbitTapSettings, receive: Receive) {
    this.#settings = settings;
    this.#receive = receive;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#broker = connectBroker({
      urls: settings.urls,
      tls: settings.tls,
      name: `xmpp-event-pusher: ${settings.queue}`,
      log: settings.log ?? SILENT,
      opened: (connection) => this.#open(connection),
      closed: () => {
        this.#reader = undefined;
      },
      changed: resolve,
    });
    this.tried = promise;
    void this.#watchDepth();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    const reader = this.#reader;
    this.#reader = undefined;
    const late = new AbortController();
    // A broker that doesn't answer must not delay the stop: unacknowledged messages come again.
    const waited = sleep(STOP_MS, undefined, { signal: late.signal }).catch(() => {});
    await Promise.race([reader?.stop().catch((error: unknown) => this.#note(error)), waited]);
    late.abort();
    await this.#broker.close();
  }

  state(): Omit<TapState, 'at'> {
    const { problem } = this.#broker;
    const putOff = this.#reader?.putOff;
    const waiting = this.#ready === undefined ? undefined : this.#ready + (this.#reader?.held ?? 0);
    if (problem) return { problem, waiting: undefined };
    if (putOff !== undefined) return { problem: { reason: `events wait in the queue: ${putOff}` }, waiting };
    return { problem: undefined, waiting, note: this.#noteOf() };
  }

  /** Whether it reads, in a few words; the broker doesn't report which other daemon does. */
  #noteOf(): string {
    const sessions = this.#reader?.sessions;
    return sessions === undefined ? 'stands by' : `reads; ${countOf(sessions, 'session')} online`;
  }

  async #open(connection: ChannelModel): Promise<void> {
    const { queue, exchanges, temporary, log = SILENT, giveUpMs } = this.#settings;
    await declare(connection, { queue, exchanges, temporary });
    const source = `${queue}@${vhostOf(this.#settings.urls[0] ?? '')}`;
    const lost = (error?: Error) => {
      // Handled as the connection's own failure: explained, logged, and followed by a reconnect.
      if (error) connection.emit('error', error);
      void closeConnection(connection);
    };
    this.#reader = await startReader(
      connection,
      { queue, exchanges, source, receive: this.#receive, log, giveUpMs },
      lost,
    );
  }

  async #watchDepth(): Promise<void> {
    const { signal } = this.#stopping;
    await this.tried;
    while (!signal.aborted) {
      this.#ready = await this.#askDepth();
      await sleep(DEPTH_MS, undefined, { signal, ref: false }).catch(() => {});
    }
  }

  async #askDepth(): Promise<number | undefined> {
    const { connection } = this.#broker;
    if (!connection) return undefined;
    try {
      const channel = await openChannel(connection);
      const { messageCount } = await channel.checkQueue(this.#settings.queue);
      await channel.close();
      return messageCount;
    } catch {
      // The reader of the queue reports the problem.
      return undefined;
    }
  }

  #note(error: unknown): void {
    this.#settings.log?.warn({ problem: messageOf(error) }, "can't release the queue in order; the broker releases it");
  }
}

/** The vhost in an address, decoded. */
function vhostOf(url: string): string {
  const { pathname } = new URL(url);
  return decodeURIComponent(pathname.slice(1)) || '/';
}
