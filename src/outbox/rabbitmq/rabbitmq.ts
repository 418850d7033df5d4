/**
 * The outbox of several daemons: RabbitMQ, with a quorum queue for each partition of each topic. See docs/rabbitmq.md
 * for its guarantees and docs/decisions/rabbitmq-outbox.md for the design.
 *
 * Maintained invariants:
 * - A commit resolves when RabbitMQ has confirmed its notifications, the disk has its dead letters and RabbitMQ has its
 *   position, in this order: after a crash the whole batch comes again.
 * - A topic's queues are declared, and listed in the directory, before anything is written to them.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ChannelModel, ConfirmChannel } from 'amqplib';
import { PusherError } from '../../errors.ts';
import { atMost } from '../../rabbitmq/answers.ts';
import { type Broker, closeConnection, connectBroker, openConfirmChannel } from '../../rabbitmq/connection.ts';
import { explain } from '../../rabbitmq/explain.ts';
import type { DeadLetterStore, NewDeadLetter } from '../dead-letters.ts';
import { refuseMaxBytes } from '../options.ts';
import type { Admission, Backlog, Cursor, Health, Outbox, Recall, Stored } from '../outbox.ts';
import type { SourceStore } from '../sources.ts';
import { RabbitBacklog } from './backlog.ts';
import { type Announcement, Daemons } from './daemons.ts';
import { Depths } from './depths.ts';
import { Directory } from './directory.ts';
import type { Ground, PartitionMemory } from './ground.ts';
import { leaveHandover, remember, takeHandover } from './handover.ts';
import { Leases } from './leases.ts';
import { Marks } from './marks.ts';
import { namesOf, partitionOf } from './names.ts';
import type { RabbitOutboxOptions } from './options.ts';
import { BASELINE, BLOCK, NUMBERED, type Numbering, toLine, UNNUMBERED } from './parcel.ts';
import { type Position, Positions } from './positions.ts';
import { Queues } from './queues.ts';
import { sharesOf } from './shares.ts';
import { View } from './view.ts';
import { Writer } from './writer.ts';

const POLL_MS = 2_000;
/** Delay before a failed write of dead letters is retried, in milliseconds. */
const BURY_AGAIN_MS = 500;
const RENEW_MS = 600_000;
/** All is spread within 10 s. */
const LEAVE_MS = 6_000;
/** Service managers kill a daemon that takes 30 s to stop; its publishers have had 10 s before. */
const STOP_MS = 3_000;
/** How long to listen for other daemons after connecting, before consuming any partition, in milliseconds. */
const LISTEN_MS = 100;
/** What all consumers may hold together, in bytes. */
const MOST_BYTES = 25_165_824;
/**
 * Parcels of a partition that may be unacknowledged. The same in all daemons and always: RabbitMQ puts returned messages
 * behind those that were returned before, so each consumer must get all of those at once.
 */
const PREFETCH = 10;

/** Opens the outbox; connects in the background, and reports what is wrong meanwhile. */
export function rabbitOutbox(options: RabbitOutboxOptions): Outbox {
  refuseMaxBytes('rabbitOutbox', options.maxBytes);
  return new RabbitOutbox(options);
}

class RabbitOutbox implements Outbox {
  readonly deadLetters: DeadLetterStore;
  readonly sources: SourceStore;
  readonly #options: RabbitOutboxOptions;
  readonly #id = randomBytes(6).toString('hex');
  readonly #broker: Broker;
  readonly #daemons: Daemons;
  readonly #directory: Directory;
  readonly #positions: Positions;
  readonly #queues: Queues;
  readonly #writer: Writer;
  readonly #depths = new Depths();
  readonly #ground: Ground;
  readonly #view: View;
  readonly #backlogs = new Map<string, RabbitBacklog>();
  readonly #memories = new Map<string, PartitionMemory>();
  readonly #listeners = new Set<(topic: string) => void>();
  /** Positions moved since the last announcement. */
  #moved = new Map<string, Position>();
  readonly #pending = new Set<Promise<void>>();
  readonly #timers: readonly NodeJS.Timeout[];
  #connection: ChannelModel | undefined;
  /** Whether it has listened for other daemons long enough to know its share. */
  #listened = false;
  /** The connection that opens another channel to write to. */
  #renewing: ChannelModel | undefined;
  #lastBlock = 0;
  #closed = false;

  constructor(options: RabbitOutboxOptions) {
    this.#options = options;
    const { urls, tls, prefix, partitions, letters, maxBytes, log, now = Date.now, handoverFile } = options;
    const connection = () => this.#connection;
    const names = namesOf(prefix);
    this.#daemons = new Daemons({
      id: this.#id,
      names,
      describe: (everything) => this.#describe(everything),
      changed: () => this.#spread(),
      silentMs: options.silentMs,
      lost: (lost, error) => this.#ended(lost, error),
      heard: (announcement) => this.#heard(announcement),
      asked: (what) => void this.#positions.giveBack(what),
      settled: (parcels) => remember(this.#ground.settled, parcels),
      retired: (source) => this.#positions.forgotten(source),
    });
    this.#writer = new Writer({
      daemon: this.#id,
      now,
      confirmed: (queue, notifications, bytes) => this.#depths.written(queue, notifications, bytes),
      gone: (queue) => this.#queues.gone(queue),
      unanswered: () => void this.#renewWriter(),
      confirmMs: options.confirmMs,
    });
    const write = (queue: string, lines: readonly string[]) => this.#writer.write(queue, lines);
    const leases = new Leases({ names, connection, ask: (what) => this.#daemons.ask(what) });
    this.#directory = new Directory({ queue: names.directory, leases, connection, write });
    const moved = (position: Position) => this.#moved.set(`${position.source}\n${position.epoch}`, position);
    const shared = { names, leases, directory: this.#directory, connection };
    this.#positions = new Positions({ ...shared, write, moved, log, now });
    const perQueue = Math.max(1, Math.floor(maxBytes / partitions));
    const consumers = (queue: string) => this.#view.consumers.filter((consumer) => consumer.queue === queue);
    const changed = () => this.#spread();
    const queueOptions = { partitions, maxBytes: perQueue, depths: this.#depths, consumers, changed, write, log };
    this.#queues = new Queues({ ...shared, ...queueOptions });
    this.#view = new View({
      id: this.#id,
      url: options.url,
      partitions,
      maxBytes,
      letters,
      backlogs: this.#backlogs,
      queues: this.#queues,
      directory: this.#directory,
      depths: this.#depths,
      daemons: () => this.#daemons,
      positions: this.#positions,
      now,
    });
    const settled = new Map<string, string>();
    this.#ground = {
      connection,
      declare: (queue) => this.#queues.declareToConsume(queue),
      isFormer: (queue) => this.#queues.isFormer(queue),
      refresh: () => this.#directory.read(),
      missing: (queue) => this.#queues.missing(queue),
      prefetch: options.prefetch ?? PREFETCH,
      mostBytes: () => (options.mostBytes ?? MOST_BYTES) / Math.max(1, this.#view.consumers.length),
      reserve: (places) => this.#reserve(places),
      bury: (dead) => this.#bury(dead),
      memoryOf: (queue) => this.#memoryOf(queue),
      settled,
      gaveBack: (parcels) => this.#daemons.tellSettled(parcels),
      depths: this.#depths,
      log,
      renewMs: options.renewMs ?? RENEW_MS,
      leaveMs: options.leaveMs ?? LEAVE_MS,
      stopMs: options.stopMs ?? STOP_MS,
    };
    const left = takeHandover(handoverFile);
    remember(settled, left.settled);
    for (const [queue, depth] of left.depths) this.#depths.returned(queue, depth);
    this.deadLetters = letters.deadLetters;
    this.sources = {
      ...this.#positions.store,
      retire: async (source) => {
        const found = await this.#positions.store.retire(source);
        if (found) this.#daemons.tellRetired(source);
        return found;
      },
    };
    this.#timers = [
      setInterval(() => this.#queues.poll(), options.pollMs ?? POLL_MS).unref(),
      setInterval(() => this.#spread(), 1_000).unref(),
    ];
    const name = `xmpp-event-pusher: outbox ${prefix}`;
    const opened = (open: ChannelModel) => this.#opened(open);
    this.#broker = connectBroker({ urls, tls, name, log, opened, closed: () => this.#lost(this.#connection) });
  }

  get fault(): PusherError | undefined {
    const problem = this.#broker.problem ?? this.#daemons.newer;
    if (problem) return new PusherError('OUTBOX_UNUSABLE', `outbox: RabbitMQ: ${problem.reason}; ${problem.advice}`);
    const { partitions } = this.#options;
    // Two numbers of partitions at once would split a user's notifications, and so lose their order.
    const other = this.#daemons.others.find((daemon) => daemon.partitions !== partitions);
    if (!other) return undefined;
    const seen = `a daemon (${other.url ?? other.id}) has outbox.partitions = ${other.partitions}, this one ${partitions}`;
    return new PusherError('OUTBOX_UNUSABLE', `outbox: ${seen}: give all daemons the same number, and restart them`);
  }

  source(name: string, epoch: string): Promise<Cursor> {
    return this.#positions.cursor(name, epoch, (baseline) => (admission) => {
      return this.#track(this.#keep(admission, baseline ? BASELINE : NUMBERED));
    });
  }

  commit(admission: Admission): Promise<void> {
    return this.#track(this.#keep(admission, UNNUMBERED));
  }

  backlog(topic: string, take: (notifications: readonly Stored[]) => void, recall: Recall = () => []): Backlog {
    if (this.#backlogs.has(topic)) throw new Error(`the backlog of ${topic} is open already`);
    const backlog = new RabbitBacklog(topic, this.#ground, take, recall, () => this.#backlogs.delete(topic));
    this.#backlogs.set(topic, backlog);
    this.#spread();
    return backlog;
  }

  topics(): Iterable<string> {
    return this.#queues.topics();
  }

  onTopic(listener: (topic: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  health(): Health {
    return this.#view.health(this.fault?.message);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const timer of this.#timers) clearInterval(timer);
    await atMost(this.#ground.stopMs, this.#queues.polling);
    await Promise.allSettled(this.#pending);
    await Promise.all([...this.#backlogs.values()].map((backlog) => backlog.close()));
    await atMost(this.#ground.stopMs, this.#daemons.stop());
    const { handoverFile, letters } = this.#options;
    leaveHandover(handoverFile, { settled: [...this.#ground.settled], depths: this.#depths.entries() });
    await this.#broker.close();
    await letters.close();
  }

  async #opened(connection: ChannelModel): Promise<void> {
    this.#connection = connection;
    this.#queues.reset();
    this.#listened = false;
    try {
      this.#writer.attach(await this.#openWriter(connection));
      await this.#daemons.attach(connection);
      await this.#directory.read();
      setTimeout(() => this.#join(connection), LISTEN_MS).unref();
      this.#call(this.#directory.topics);
      await this.#positions.readAll();
    } catch (error) {
      this.#lost(connection);
      throw error;
    }
  }

  #openWriter(connection: ChannelModel): Promise<ConfirmChannel> {
    return openConfirmChannel(connection, (error) => this.#ended(connection, error));
  }

  /** Writes over another channel: where a queue lost its leader, the answer on this one may never come. */
  async #renewWriter(): Promise<void> {
    const connection = this.#connection;
    // During an alarm the answers wait for its end.
    if (!connection || this.#broker.problem || this.#renewing === connection) return;
    this.#renewing = connection;
    try {
      const channel = await this.#openWriter(connection);
      if (this.#connection === connection) this.#writer.attach(channel);
      this.#options.log.warn({}, 'RabbitMQ left messages unconfirmed; writing over another channel');
    } catch {
      this.#lost(connection);
    } finally {
      this.#renewing = undefined;
    }
  }

  /** It knows the others now: takes its share of the partitions, and has them leave it. */
  #join(connection: ChannelModel): void {
    if (this.#connection !== connection) return;
    this.#listened = true;
    this.#daemons.join();
    this.#spread();
  }

  /** A channel ended that the outbox can't do without. */
  #ended(connection: ChannelModel, error?: Error): void {
    if (error && this.#connection === connection) {
      const { reason, advice } = explain(error);
      this.#options.log.error({ problem: reason, advice }, 'RabbitMQ closed a channel of the outbox; reconnecting');
    }
    this.#lost(connection);
  }

  #lost(connection: ChannelModel | undefined): void {
    if (!connection || this.#connection !== connection) return;
    this.#connection = undefined;
    this.#daemons.detach();
    this.#writer.detach(
      this.fault ?? new PusherError('OUTBOX_UNUSABLE', 'outbox: lost the connection to RabbitMQ; reconnecting'),
    );
    // One of our channels may have ended alone: reconnect everything.
    if (!this.#closed) void closeConnection(connection);
  }

  #track(keeping: Promise<void>): Promise<void> {
    this.#pending.add(keeping);
    const done = () => this.#pending.delete(keeping);
    keeping.then(done, done);
    return keeping;
  }

  async #keep({ notifications, deadLetters, replaces = [] }: Admission, numbering: Numbering): Promise<void> {
    if (this.#closed) throw new PusherError('OUTBOX_CLOSED', 'the outbox is closed');
    const { fault } = this;
    if (fault) throw fault;
    const topics = new Set(notifications.map(({ topic }) => topic));
    for (const topic of topics) {
      await this.#queues.ensure(topic);
      this.#view.writing(topic);
    }
    const lines = new Map<string, string[]>();
    for (const notification of notifications) {
      const { topic, orderKey } = notification;
      const { partitions } = this.#options;
      const queue = this.#queues.current(topic)[partitionOf(orderKey, partitions)] as string;
      const line = toLine(notification, numbering);
      const others = lines.get(queue);
      if (others) others.push(line);
      else lines.set(queue, [line]);
    }
    if (lines.size > 0) await this.#writer.gather(lines);
    if (deadLetters.length > 0 || replaces.length > 0)
      await this.#options.letters.commit({ notifications: [], deadLetters, replaces });
    this.#call([...topics]);
  }

  /** Requests consumers for topics without any. */
  #call(topics: readonly string[]): void {
    for (const topic of topics) if (!this.#backlogs.has(topic)) for (const listener of this.#listeners) listener(topic);
  }

  /** Each backlog consumes this daemon's share of its topic's partitions. */
  #spread(): void {
    if (!this.#connection || !this.#listened || this.#closed) return;
    for (const [topic, backlog] of this.#backlogs) {
      const queues = this.#queues.readable(topic);
      const owners = sharesOf(topic, queues.length, this.#daemons.ids);
      backlog.own(queues.filter((_, index) => owners[index] === this.#id));
    }
  }

  #describe(everything: boolean): Announcement {
    const positions = everything ? this.#positions.held() : [...this.#moved.values()];
    this.#moved = new Map();
    return this.#view.announcement(positions);
  }

  #heard({ topics, generations, positions }: Announcement): void {
    for (const position of positions) this.#positions.heard(position);
    const known = new Set(this.#queues.topics());
    const changed = ([topic, counts]: [string, readonly number[]]) =>
      `${counts}` !== `${this.#directory.generations(topic)}`;
    if (!this.#connection) return;
    if (topics.every((topic) => known.has(topic)) && !Object.entries(generations ?? {}).some(changed)) return;
    void this.#directory.read().then(
      () => {
        this.#spread();
        this.#call(this.#directory.topics);
      },
      () => undefined, // The connection is gone; the next one reads it again.
    );
  }

  #memoryOf(queue: string): PartitionMemory {
    const known = this.#memories.get(queue);
    if (known) return known;
    const memory = { marks: new Marks(), acknowledged: new Set<string>() };
    this.#memories.set(queue, memory);
    return memory;
  }

  /** Numbers of a parcel begin a block, so that a number leads to its parcel. */
  #reserve(places: number): number {
    const first = this.#lastBlock + 1;
    this.#lastBlock += Math.ceil(places / BLOCK);
    return first * BLOCK;
  }

  /** Stores dead letters however long the disk takes: their parcels must not be acknowledged before. */
  async #bury(deadLetters: readonly NewDeadLetter[]): Promise<void> {
    for (;;) {
      try {
        await this.#options.letters.commit({ notifications: [], deadLetters });
        return;
      } catch (error) {
        if (error instanceof PusherError && error.code === 'OUTBOX_CLOSED') return new Promise(() => {});
        await sleep(BURY_AGAIN_MS, undefined, { ref: false });
      }
    }
  }
}
