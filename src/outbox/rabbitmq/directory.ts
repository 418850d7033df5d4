/**
 * The topics and source epochs that have queues in the outbox: AMQP can't list queues. It is one message in a queue of
 * length 1, changed under a lease.
 */
import type { ChannelModel } from 'amqplib';
import { PusherError } from '../../errors.ts';
import { createTurns } from '../turns.ts';
import { readLast } from './last-value.ts';
import type { Leases } from './leases.ts';

interface Content {
  /** Each topic's number of partitions; also earlier numbers, until their queues are empty. */
  readonly topics: Readonly<Record<string, readonly number[]>>;
  readonly epochs: readonly (readonly [source: string, epoch: string])[];
}

const WHAT = 'directory';
const EMPTY: Content = { topics: {}, epochs: [] };

/** What is called when a change's turn comes, and before any daemon can change it again. */
interface Moments {
  readonly begins?: () => void;
  readonly act?: () => Promise<void>;
}

export interface DirectoryOptions {
  readonly queue: string;
  readonly leases: Leases;
  readonly connection: () => ChannelModel | undefined;
  readonly write: (queue: string, lines: readonly string[]) => Promise<void>;
}

export class Directory {
  readonly #options: DirectoryOptions;
  readonly #turns = createTurns();
  #content = EMPTY;
  /** The epochs, for look-ups, and what they were made from. */
  #index: ReadonlySet<string> = new Set();
  #indexed: Content['epochs'] = EMPTY.epochs;
  /** A read that waits for its turn. */
  #waiting: Promise<void> | undefined;

  constructor(options: DirectoryOptions) {
    this.#options = options;
  }

  /** Each topic's number of partitions; also earlier numbers, until their queues are empty. */
  get all(): Content['topics'] {
    return this.#content.topics;
  }

  get topics(): readonly string[] {
    return Object.keys(this.#content.topics);
  }

  get epochs(): Content['epochs'] {
    return this.#content.epochs;
  }

  /** The numbers of partitions that a topic has queues for, the current one last. */
  generations(topic: string): readonly number[] {
    return this.#content.topics[topic] ?? [];
  }

  hasEpoch(source: string, epoch: string): boolean {
    if (this.#indexed !== this.#content.epochs) {
      this.#indexed = this.#content.epochs;
      this.#index = new Set(this.#indexed.map(([name, run]) => `${name}\n${run}`));
    }
    return this.#index.has(`${source}\n${epoch}`);
  }

  /**
   * Reads the directory again. One read serves all who ask before it begins: a slow broker would not keep up.
   * @param act runs before any daemon can change it
   */
  read(act?: () => Promise<void>): Promise<void> {
    if (act) return this.#change((content) => content, { act });
    const begins = () => {
      this.#waiting = undefined;
    };
    this.#waiting ??= this.#change((content) => content, { begins });
    return this.#waiting;
  }

  /** Adds a topic's new number of partitions, unless another daemon has done so. */
  addGeneration(topic: string, count: number): Promise<void> {
    return this.#change((content) => {
      const generations = content.topics[topic] ?? [];
      if (generations.includes(count)) return content;
      return { ...content, topics: { ...content.topics, [topic]: [...generations, count] } };
    });
  }

  /** Removes a former number of partitions, whose queues are gone. */
  dropGeneration(topic: string, count: number): Promise<void> {
    return this.#change((content) => {
      const generations = content.topics[topic] ?? [];
      if (!generations.includes(count)) return content;
      return { ...content, topics: { ...content.topics, [topic]: generations.filter((each) => each !== count) } };
    });
  }

  addEpoch(source: string, epoch: string): Promise<void> {
    return this.#change((content) => {
      const { topics, epochs } = content;
      const isKnown = epochs.some(([name, run]) => name === source && run === epoch);
      return isKnown ? content : { topics, epochs: [...epochs, [source, epoch]] };
    });
  }

  removeEpochs(gone: (source: string, epoch: string) => boolean): Promise<void> {
    return this.#change(({ topics, epochs }) => ({
      topics,
      epochs: epochs.filter(([source, epoch]) => !gone(source, epoch)),
    }));
  }

  async #change(change: (content: Content) => Content, { begins, act }: Moments = {}): Promise<void> {
    const { queue, leases, connection, write } = this.#options;
    const leave = await this.#turns(WHAT);
    begins?.();
    try {
      await leases.take(WHAT);
      try {
        const current = connection();
        if (!current) throw new PusherError('OUTBOX_UNUSABLE', 'outbox: not connected to RabbitMQ');
        const stored = ((await readLast(current, queue)) as Content | undefined) ?? EMPTY;
        this.#content = change(completed(stored, this.#content));
        if (this.#content !== stored) await write(queue, [JSON.stringify(this.#content)]);
        await act?.();
      } finally {
        // Others wait for it, whatever became of the change. It ends with the connection in any case.
        await leases.release(WHAT).catch(() => undefined);
      }
    } finally {
      leave();
    }
  }
}

/**
 * Adds the topics that are known here: if the directory's queue was deleted, and perhaps written again by a daemon that
 * knows less, nobody would read their queues. Topics never leave the directory; an epoch is added when it moves.
 */
function completed(stored: Content, known: Content): Content {
  const lacking = Object.keys(known.topics).some((topic) => !stored.topics[topic]);
  return lacking ? { ...stored, topics: { ...known.topics, ...stored.topics } } : stored;
}
