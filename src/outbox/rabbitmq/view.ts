/** The outbox's current state, from its queues, this daemon's parcels and the other daemons' announcements. */
import type { Health, Outbox } from '../outbox.ts';
import type { RabbitBacklog } from './backlog.ts';
import type { PartitionConsumer } from './consumer.ts';
import type { Announcement, Daemons } from './daemons.ts';
import type { Depths } from './depths.ts';
import type { Directory } from './directory.ts';
import type { Position, Positions } from './positions.ts';
import type { Queues } from './queues.ts';

export interface ViewOptions {
  readonly id: string;
  readonly url: string | undefined;
  readonly partitions: number;
  /** Size limit of one topic's queues. */
  readonly maxBytes: number;
  readonly letters: Outbox;
  readonly backlogs: ReadonlyMap<string, RabbitBacklog>;
  readonly queues: Queues;
  readonly directory: Directory;
  readonly depths: Depths;
  readonly daemons: () => Daemons;
  readonly positions: Positions;
  readonly now: () => number;
}

export class View {
  readonly #options: ViewOptions;
  /** Age of each topic's backlog, as far as this daemon wrote it. */
  readonly #since = new Map<string, number>();

  constructor(options: ViewOptions) {
    this.#options = options;
  }

  get consumers(): PartitionConsumer[] {
    return [...this.#options.backlogs.values()].flatMap(({ consumers }) => consumers);
  }

  /** Notes that something is about to be put into a topic's queues. */
  writing(topic: string): void {
    if (this.#depthOf(topic) === 0) this.#since.set(topic, this.#options.now());
  }

  /** @param fault why nothing can be stored at the moment */
  health(fault: string | undefined): Health {
    const { letters, queues, depths, positions, maxBytes } = this.#options;
    const { deadLetters, fault: lettersFault } = letters.health();
    const topics = queues.topics().map((topic) => ({ topic, depth: this.#depthOf(topic) }));
    const all = topics.flatMap(({ topic }) => queues.all(topic));
    const oldest = topics.flatMap(({ topic, depth }) => (depth > 0 ? (this.#oldestAt(topic) ?? []) : []));
    return {
      topics,
      sources: positions.states(),
      holes: positions.holes(),
      deadLetters,
      bytes: all.reduce((sum, queue) => sum + depths.of(queue).bytes, 0),
      maxBytes: maxBytes * Math.max(1, topics.length),
      oldestAt: oldest.length > 0 ? Math.min(...oldest) : undefined,
      fault: fault ?? queues.problem ?? this.#consumerFault() ?? lettersFault,
      shared: this.#shared(deadLetters),
    };
  }

  /** This daemon's announcement to the others. */
  announcement(positions: readonly Position[]): Announcement {
    const { id, url, queues, directory, partitions, letters, backlogs } = this.#options;
    const open = this.consumers.filter(({ isOpen }) => isOpen);
    const held = open.map(({ queue, inHand }) => [queue, inHand] as const);
    const oldest = [...backlogs.keys()].flatMap((topic) => this.#ownOldest(topic) ?? []);
    return {
      id,
      url,
      topics: queues.topics(),
      generations: directory.all,
      partitions,
      deadLetters: letters.health().deadLetters,
      inHand: Object.fromEntries(held),
      oldestAt: oldest.length > 0 ? Math.min(...oldest) : undefined,
      positions,
    };
  }

  #depthOf(topic: string): number {
    return this.#options.queues.all(topic).reduce((sum, queue) => sum + this.#depthOfQueue(queue), 0);
  }

  /** Notifications in a queue, in this daemon's hands and, as last announced, in the others'. */
  #depthOfQueue(queue: string): number {
    const elsewhere = this.#options.daemons().others.reduce((sum, { inHand }) => sum + (inHand[queue] ?? 0), 0);
    const own = this.consumers.filter((consumer) => consumer.queue === queue);
    return this.#options.depths.of(queue).notifications + elsewhere + own.reduce((sum, { inHand }) => sum + inHand, 0);
  }

  #shared(deadLetters: number): NonNullable<Health['shared']> {
    const { id, url } = this.#options;
    const { others } = this.#options.daemons();
    const own = this.consumers;
    const partitions = this.#options.queues.topics().flatMap((topic) =>
      this.#options.queues.all(topic).map((queue) => {
        const consumer = own.find((each) => each.queue === queue);
        const other = others.find(({ inHand }) => inHand[queue] !== undefined);
        const daemon = consumer?.isOpen ? id : other?.id;
        return { topic, queue, daemon, depth: this.#depthOfQueue(queue), problem: consumer?.problem?.reason };
      }),
    );
    const self = { id, self: true, url, deadLetters };
    const peers = others.map((each) => ({ id: each.id, self: false, url: each.url, deadLetters: each.deadLetters }));
    return { partitions, daemons: [self, ...peers].toSorted((a, b) => (a.id < b.id ? -1 : 1)) };
  }

  #ownOldest(topic: string): number | undefined {
    const consumers = this.#options.backlogs.get(topic)?.consumers ?? [];
    const times = consumers.flatMap(({ parcels }) => [...parcels].flatMap(({ left, at }) => (left > 0 ? at : [])));
    return times.length > 0 ? Math.min(...times) : undefined;
  }

  #oldestAt(topic: string): number | undefined {
    const elsewhere = this.#options.daemons().others.flatMap(({ oldestAt }) => oldestAt ?? []);
    const times = [this.#ownOldest(topic) ?? [], elsewhere].flat();
    return times.length > 0 ? Math.min(...times) : this.#since.get(topic);
  }

  #consumerFault(): string | undefined {
    for (const { queue, problem } of this.consumers)
      if (problem) return `outbox: RabbitMQ: ${queue}: ${problem.reason}; ${problem.advice}`;
    return undefined;
  }
}
