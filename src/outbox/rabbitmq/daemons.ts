/**
 * The daemons of one prefix: each announces itself over a fanout exchange, and hears the others.
 *
 * A silent daemon is considered gone after a while, also one known from an earlier connection: after an outage of the
 * broker all come back, at different times, and each continues with the partitions whose parcels it knows. The daemons'
 * views may differ for a moment: the broker lets only one consumer of a partition be active, however many subscribe.
 */
import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';
import { isBlocked, openChannel } from '../../rabbitmq/connection.ts';
import type { BrokerProblem } from '../../rabbitmq/explain.ts';
import { FORMAT_HEADER, problemOfFormat } from '../../rabbitmq/format.ts';
import type { Directory } from './directory.ts';
import type { Names } from './names.ts';
import type { Position } from './positions.ts';

/** A daemon's announcement. */
export interface Announcement {
  readonly id: string;
  /** URL of its console, where people find its dead letters. */
  readonly url?: string | undefined;
  readonly topics: readonly string[];
  /** The numbers of partitions of each topic, as it read the directory. */
  readonly generations: Directory['all'];
  readonly partitions: number;
  readonly deadLetters: number;
  /** The queues that it consumes, with the number of notifications in its hands. */
  readonly inHand: Readonly<Record<string, number>>;
  readonly oldestAt?: number | undefined;
  /** Positions that it moved recently. */
  readonly positions: readonly Position[];
}

type Message =
  /** It has connected, asks who is there, and takes no share yet. */
  | { readonly kind: 'who'; readonly id: string }
  | { readonly kind: 'here'; readonly daemon: Announcement }
  /** It stops. */
  | { readonly kind: 'bye'; readonly id: string }
  /** It asks the holder of a lease to release it. */
  | { readonly kind: 'ask'; readonly id: string; readonly what: string }
  /** It returned parcels with some settled places. */
  | { readonly kind: 'settled'; readonly id: string; readonly parcels: readonly (readonly [string, string])[] }
  | { readonly kind: 'retired'; readonly id: string; readonly source: string };

export interface DaemonsOptions {
  readonly id: string;
  readonly names: Names;
  /** This daemon's announcement. @param everything for a new daemon, which has no earlier ones */
  readonly describe: (everything: boolean) => Announcement;
  /** Called when the set of daemons changes, or their data on topics. */
  readonly changed: () => void;
  /** The silence after which a daemon is considered gone, in milliseconds. Default: 5 s. */
  readonly silentMs?: number | undefined;
  /** A monotonic clock, in milliseconds. */
  readonly now?: (() => number) | undefined;
  /** Announcements can't be sent or heard over this connection any more. */
  readonly lost: (connection: ChannelModel, error?: Error) => void;
  readonly heard: (announcement: Announcement) => void;
  readonly asked: (what: string) => void;
  readonly settled: (parcels: readonly (readonly [string, string])[]) => void;
  readonly retired: (source: string) => void;
}

/** Interval of announcements, and the default of `silentMs`, in milliseconds. */
const ANNOUNCE_MS = 1_000;
const SILENT_MS = 5_000;
/** A daemon that hasn't heard itself for so many times of the silence of others opens a new channel. */
const DEAF = 2;
/**
 * How long a daemon that reconnects is waited for, in milliseconds. Where RabbitMQ has just lost most of its nodes, its
 * first requests time out after 10 s, and it tries again 2 s later; but no partition may wait for longer than 15 s.
 */
const RETURN_MS = 14_000;

export class Daemons {
  readonly #options: DaemonsOptions;
  readonly #others = new Map<string, Other>();
  #newer: { readonly problem: BrokerProblem; readonly heardAt: number } | undefined;
  #channel: Channel | undefined;
  #connection: ChannelModel | undefined;
  #connections = 0;
  /** When it last heard itself. */
  #echoAt = 0;
  /** Whether the others count on it. */
  #joined = false;
  readonly #timer: NodeJS.Timeout;
  readonly #now: () => number;

  constructor(options: DaemonsOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#timer = setInterval(() => this.#beat(), ANNOUNCE_MS).unref();
  }

  get others(): readonly Announcement[] {
    return [...this.#others.values()].map(({ announcement }) => announcement);
  }

  /** All daemons present, including this one. */
  get ids(): readonly string[] {
    return [this.#options.id, ...this.#others.keys()].toSorted();
  }

  /** Another daemon is of a release that this one does not understand. */
  get newer(): BrokerProblem | undefined {
    return this.#newer && this.#now() - this.#newer.heardAt < SILENT_MS ? this.#newer.problem : undefined;
  }

  /** Uses this connection for announcements, and asks who is there. */
  async attach(connection: ChannelModel): Promise<void> {
    const { id, names } = this.#options;
    const lost = (error?: Error) => {
      if (this.#channel === channel) this.#lost(error);
    };
    const channel = await openChannel(connection, lost);
    await channel.assertExchange(names.daemons, 'fanout', { durable: true });
    // Not the last connection's, which RabbitMQ may hold to be open for a while.
    const queue = names.daemon(`${id}.${++this.#connections}`);
    await channel.assertQueue(queue, { exclusive: true, durable: false });
    await channel.bindQueue(queue, names.daemons, '');
    const receive = (message: ConsumeMessage | null) =>
      message ? this.#receive(message) : lost(new Error(`the queue ${queue} was deleted`));
    await channel.consume(queue, receive, { noAck: true });
    this.#channel = channel;
    this.#connection = connection;
    this.#joined = false;
    this.#send({ kind: 'who', id });
  }

  #lost(error?: Error): void {
    this.#channel = undefined;
    if (this.#connection) this.#options.lost(this.#connection, error);
  }

  /**
   * The others leave this daemon its share from now on. Not before it can take it: nobody would work on what they
   * leave.
   */
  join(): void {
    this.#joined = true;
    const now = this.#now();
    this.#echoAt = now;
    for (const other of this.#others.values()) Object.assign(other, { heardAt: now, announcedAt: now });
    this.#announce(true);
  }

  detach(): void {
    this.#channel = undefined;
    this.#joined = false;
  }

  ask(what: string): void {
    this.#send({ kind: 'ask', id: this.#options.id, what });
  }

  tellSettled(parcels: readonly (readonly [string, string])[]): void {
    if (parcels.length > 0) this.#send({ kind: 'settled', id: this.#options.id, parcels });
  }

  tellRetired(source: string): void {
    this.#send({ kind: 'retired', id: this.#options.id, source });
  }

  /**
   * Says good-bye. The channel is closed for it: a connection that is closed leaves out what its channels still hold.
   */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#send({ kind: 'bye', id: this.#options.id });
    await this.#channel?.close().catch(() => undefined);
  }

  #beat(): void {
    if (!this.#joined) {
      this.#send({ kind: 'who', id: this.#options.id });
      return;
    }
    this.#announce(false);
    const { silentMs = SILENT_MS, changed } = this.#options;
    const now = this.#now();
    if (this.#connection && isBlocked(this.#connection)) this.#echoAt = now;
    // The exchange was deleted, and declared again by another daemon, without this one's queue.
    if (this.#channel && now - this.#echoAt > DEAF * silentMs) {
      this.#lost(new Error('the exchange of announcements does not bring its own ones back'));
      return;
    }
    let gone = false;
    for (const [id, { heardAt }] of this.#others) if (now - heardAt > silentMs) gone = this.#others.delete(id) || gone;
    if (gone) changed();
  }

  #announce(everything: boolean): void {
    if (this.#joined) this.#send({ kind: 'here', daemon: this.#options.describe(everything) });
  }

  #send(message: Message): void {
    try {
      const content = Buffer.from(JSON.stringify(message));
      this.#channel?.publish(this.#options.names.daemons, '', content, { headers: FORMAT_HEADER });
    } catch {
      // The channel has just ended; the next connection opens a new one.
    }
  }

  /** A daemon has connected, perhaps again: its partitions wait for it, but no longer than `RETURN_MS` in all. */
  #returns(id: string): void {
    const known = this.#others.get(id);
    const { silentMs = SILENT_MS } = this.#options;
    if (known) known.heardAt = Math.max(known.heardAt, Math.min(this.#now(), known.announcedAt + RETURN_MS - silentMs));
    this.#announce(true);
  }

  #receive({ content, properties }: ConsumeMessage): void {
    const newer = problemOfFormat(properties.headers, 'the announcement of a daemon of the same prefix');
    if (newer) this.#newer = { problem: newer, heardAt: this.#now() };
    const message = newer ? undefined : parse(content);
    if (!message) return;
    const { id, changed, heard, asked, settled, retired } = this.#options;
    if (message.kind === 'here') {
      const { daemon } = message;
      if (daemon.id === id) {
        this.#echoAt = this.#now();
        return;
      }
      const before = this.#others.get(daemon.id);
      const now = this.#now();
      this.#others.set(daemon.id, { announcement: daemon, heardAt: now, announcedAt: now });
      heard(daemon);
      // A new daemon doesn't know this one yet.
      if (!before) this.#announce(true);
      if (before?.announcement.topics.join() !== daemon.topics.join()) changed();
      return;
    }
    if (message.id === id) return;
    if (message.kind === 'who') this.#returns(message.id);
    else if (message.kind === 'bye' && this.#others.delete(message.id)) changed();
    else if (message.kind === 'ask') asked(message.what);
    else if (message.kind === 'settled') settled(message.parcels);
    else if (message.kind === 'retired') retired(message.source);
  }
}

interface Other {
  readonly announcement: Announcement;
  /** When any sign of it came. */
  heardAt: number;
  /** When it was last known to have its share. */
  announcedAt: number;
}

/** Undefined for messages that no daemon of this kind wrote. */
function parse(content: Buffer): Message | undefined {
  try {
    const message = JSON.parse(content.toString()) as Message;
    return typeof message.kind === 'string' ? message : undefined;
  } catch {
    return undefined;
  }
}
