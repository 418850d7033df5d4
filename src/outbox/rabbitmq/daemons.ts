/**
 * The daemons of one prefix: each announces itself over a fanout exchange, and hears the others.
 *
 * A daemon that falls silent is counted out after a while. Nothing depends on all having the same view at a moment: the
 * broker lets one consumer of a partition be active, whoever else subscribes.
 */
import type { Channel, ChannelModel } from 'amqplib';
import { openChannel } from '../../rabbitmq/connection.ts';
import type { Names } from './names.ts';
import type { Position } from './positions.ts';

/** What a daemon says of itself. */
export interface Announcement {
  readonly id: string;
  /** Of its console, where people find its dead letters. */
  readonly url?: string | undefined;
  readonly topics: readonly string[];
  readonly partitions: number;
  readonly deadLetters: number;
  /** The queues that it consumes, with how many notifications it has in hand of each. */
  readonly inHand: Readonly<Record<string, number>>;
  readonly oldestAt?: number | undefined;
  /** Positions that it moved lately. */
  readonly positions: readonly Position[];
}

type Message =
  | { readonly kind: 'here'; readonly daemon: Announcement }
  /** It ends. */
  | { readonly kind: 'bye'; readonly id: string }
  /** It asks whoever has a lease to give it back. */
  | { readonly kind: 'ask'; readonly id: string; readonly what: string }
  /** It gave parcels back of which some places are settled. */
  | { readonly kind: 'settled'; readonly id: string; readonly parcels: readonly (readonly [string, string])[] }
  | { readonly kind: 'retired'; readonly id: string; readonly source: string };

export interface DaemonsOptions {
  readonly id: string;
  readonly names: Names;
  /** What to say of this daemon. @param everything for a daemon that is new and has heard nothing yet */
  readonly describe: (everything: boolean) => Announcement;
  /** Who is there has changed, or what they say of topics. */
  readonly changed: () => void;
  readonly heard: (announcement: Announcement) => void;
  readonly asked: (what: string) => void;
  readonly settled: (parcels: readonly (readonly [string, string])[]) => void;
  readonly retired: (source: string) => void;
}

/** How often a daemon announces itself, and for how long one that is silent counts, in milliseconds. */
const ANNOUNCE_MS = 1_000;
const SILENT_MS = 5_000;

export class Daemons {
  readonly #options: DaemonsOptions;
  readonly #others = new Map<string, { readonly announcement: Announcement; heardAt: number }>();
  #channel: Channel | undefined;
  readonly #timer: NodeJS.Timeout;

  constructor(options: DaemonsOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#beat(), ANNOUNCE_MS).unref();
  }

  get others(): readonly Announcement[] {
    return [...this.#others.values()].map(({ announcement }) => announcement);
  }

  /** All that are there, this one included. */
  get ids(): readonly string[] {
    return [this.#options.id, ...this.#others.keys()].toSorted();
  }

  /** Listens and speaks over this connection. */
  async attach(connection: ChannelModel): Promise<void> {
    const { id, names } = this.#options;
    const channel = await openChannel(connection, () => {
      if (this.#channel === channel) this.#channel = undefined;
    });
    await channel.assertExchange(names.daemons, 'fanout', { durable: true });
    const queue = names.daemon(id);
    await channel.assertQueue(queue, { exclusive: true, durable: false });
    await channel.bindQueue(queue, names.daemons, '');
    await channel.consume(queue, (message) => message && this.#receive(message.content), { noAck: true });
    this.#channel = channel;
    this.#others.clear();
    this.#announce(true);
  }

  detach(): void {
    this.#channel = undefined;
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

  /** Says good-bye. The channel is closed for it: a connection that is closed leaves out what its channels still hold. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#send({ kind: 'bye', id: this.#options.id });
    await this.#channel?.close().catch(() => undefined);
  }

  #beat(): void {
    this.#announce(false);
    const now = performance.now();
    let gone = false;
    for (const [id, { heardAt }] of this.#others)
      if (now - heardAt > SILENT_MS && this.#channel) gone = this.#others.delete(id) || gone;
    if (gone) this.#options.changed();
  }

  #announce(everything: boolean): void {
    this.#send({ kind: 'here', daemon: this.#options.describe(everything) });
  }

  #send(message: Message): void {
    try {
      this.#channel?.publish(this.#options.names.daemons, '', Buffer.from(JSON.stringify(message)));
    } catch {
      // The channel ended in this moment; it is opened anew with the connection.
    }
  }

  #receive(content: Buffer): void {
    const message = parse(content);
    if (!message) return;
    const { id, changed, heard, asked, settled, retired } = this.#options;
    if (message.kind === 'here') {
      const { daemon } = message;
      if (daemon.id === id) return;
      const before = this.#others.get(daemon.id);
      this.#others.set(daemon.id, { announcement: daemon, heardAt: performance.now() });
      heard(daemon);
      // One that is new knows nothing of this one yet.
      if (!before) this.#announce(true);
      if (before?.announcement.topics.join() !== daemon.topics.join()) changed();
      return;
    }
    if (message.id === id) return;
    if (message.kind === 'bye' && this.#others.delete(message.id)) changed();
    else if (message.kind === 'ask') asked(message.what);
    else if (message.kind === 'settled') settled(message.parcels);
    else if (message.kind === 'retired') retired(message.source);
  }
}

/** Undefined for what no daemon of this kind wrote. */
function parse(content: Buffer): Message | undefined {
  try {
    const message = JSON.parse(content.toString()) as Message;
    return typeof message.kind === 'string' ? message : undefined;
  } catch {
    return undefined;
  }
}
