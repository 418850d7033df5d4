/**
 * One topic of a publisher: its backlog, its lanes, and its pause.
 *
 * Maintained invariant: the backlog's credit limits what it holds in memory.
 */
import { type Backlog, costOf, type Outbox, type Stored } from '../outbox/outbox.ts';
import type { Throttling } from './condition.ts';
import { type Entry, Lanes } from './lanes.ts';
import type { TopicPause } from './pause.ts';

/**
 * Limit of one topic's notifications in memory, in credit: 4,000, or 16 MiB, enough to fill every slot from many lanes.
 */
const WINDOW = 4_000;
/** How many more, which wait behind others of their lane, it holds by number: 8 bytes each. */
const MOST_PARKED = 1_000_000;
/** Credit is given in such portions, so that the disk is read in bulk. */
const PORTION = 1_000;
/**
 * With this many open requests of a topic, a batch that is not full waits briefly for more: a request costs the same
 * with one notification or ten. At low load nothing waits.
 */
const BUSY_REQUESTS = 4;
const GATHER_MS = 2;

interface TopicSetup {
  readonly name: string;
  readonly outbox: Outbox;
  readonly pause: TopicPause;
  /** Most notifications in a batch. */
  readonly maxEntries: () => number;
  /** Called when there may be more, or less, to send. */
  readonly onChange: () => void;
  /** Called when it has waited long enough for a full batch. */
  readonly onGathered: () => void;
}

export class Topic {
  readonly name: string;
  readonly backlog: Backlog;
  readonly lanes = new Lanes();
  readonly pause: TopicPause;
  /** Halves of batches that the sink refused as a whole. */
  readonly halves: (readonly Entry[])[] = [];
  /** Open requests. */
  inFlight = 0;
  throttled: Throttling | undefined;
  /** The last request of which the sink accepted anything. */
  lastTaken = -1;
  readonly #setup: TopicSetup;
  /** The credit that the backlog still has. */
  #credit = 0;
  /** The timer while it waits for a full batch, and whether it has waited long enough. */
  #gathering: NodeJS.Timeout | undefined;
  #gathered = false;

  constructor(setup: TopicSetup) {
    this.#setup = setup;
    this.name = setup.name;
    this.pause = setup.pause;
    this.backlog = setup.outbox.backlog(
      setup.name,
      (notifications) => this.#take(notifications),
      (seqs) => this.#recall(seqs),
    );
  }

  /** Gives the backlog more credit once enough notifications are settled. */
  refill(): void {
    const free = WINDOW - this.lanes.held - this.#credit;
    if (free < PORTION || this.lanes.parked > MOST_PARKED) return;
    this.#credit += free;
    this.backlog.request(free);
  }

  /** Whether it may send something now; otherwise may begin to wait for a full batch. */
  maySend(): boolean {
    return (this.halves.length > 0 || this.lanes.ready) && this.pause.allows(this.inFlight) && !this.#gathers();
  }

  /** A request begins: the next batch is gathered anew. */
  begin(): void {
    this.inFlight += 1;
    clearTimeout(this.#gathering);
    this.#gathering = undefined;
    this.#gathered = false;
  }

  /** Stops all timers. */
  stop(): void {
    this.pause.stop();
    clearTimeout(this.#gathering);
  }

  #take(notifications: readonly Stored[]): void {
    for (const notification of notifications) {
      this.#credit -= costOf(notification.bytes);
      this.lanes.add(notification);
    }
    this.#setup.onChange();
  }

  /** Another daemon sends these; open requests end here. */
  #recall(seqs: ReadonlySet<number>): readonly number[] {
    const forgotten = this.lanes.forget(seqs);
    this.#setup.onChange();
    return forgotten;
  }

  /** Whether it waits for more, so that its next batch is full. */
  #gathers(): boolean {
    if (this.#gathered || this.inFlight < BUSY_REQUESTS || this.halves.length > 0) return false;
    if (this.lanes.readyCount >= this.#setup.maxEntries()) return false;
    this.#gathering ??= setTimeout(() => {
      this.#gathered = true;
      this.#setup.onGathered();
    }, GATHER_MS).unref();
    return true;
  }
}
