/**
 * Positions of sources: a queue of length 1 for each epoch, with its last number and its unacknowledged holes.
 *
 * Maintained invariants:
 * - Moving a position requires its lease, over the same connection: daemons take turns as an adapter switches between
 *   them.
 * - A cached position is trusted only while its lease is held; otherwise it is for display only.
 */
import type { ChannelModel } from 'amqplib';
import { PusherError } from '../../errors.ts';
import type { Log } from '../../log.ts';
import { explain } from '../../rabbitmq/explain.ts';
import type { Cursor } from '../outbox.ts';
import {
  advance,
  type Hole,
  type Position as KeptPosition,
  latestFirst,
  MOST_HOLES,
  outdated,
  type Progress,
  type SourceState,
  type SourceStore,
  stateOf,
} from '../sources.ts';
import { createTurns } from '../turns.ts';
import type { Directory } from './directory.ts';
import { deleteLast, readLast } from './last-value.ts';
import type { Leases } from './leases.ts';
import type { Names } from './names.ts';

/** A position as stored in its queue. */
export interface Position extends KeptPosition {
  /** The unacknowledged holes, newest first. */
  readonly open: readonly Hole[];
}

export interface PositionOptions {
  readonly names: Names;
  readonly leases: Leases;
  readonly directory: Directory;
  readonly connection: () => ChannelModel | undefined;
  readonly write: (queue: string, lines: readonly string[]) => Promise<void>;
  /** This daemon moved a position. */
  readonly moved: (position: Position) => void;
  readonly log: Log;
  readonly now: () => number;
}

/** How many positions are read at a time. */
const READERS = 8;

const keyOf = (source: string, epoch: string): string => `${source}\n${epoch}`;

export class Positions {
  readonly store: SourceStore;
  readonly #options: PositionOptions;
  readonly #turns = createTurns();
  readonly #known = new Map<string, Position>();
  /** Positions whose lease was acquired. */
  readonly #taken = new Set<string>();
  /** Of these, the ones read since, and written without an error. */
  readonly #fresh = new Set<string>();
  #lastHole = 0;

  constructor(options: PositionOptions) {
    this.#options = options;
    this.store = {
      list: async (limit) => latestFirst(this.states(), limit),
      holes: async () => this.holes(),
      acknowledge: (source) => this.#acknowledge(source),
      retire: (source) => this.#retire(source),
    };
  }

  states(): SourceState[] {
    return [...this.#known.values()].map(({ open: _, ...position }) => stateOf(position));
  }

  holes(): Hole[] {
    const all = [...this.#known.values()].flatMap(({ open }) => open);
    return all.toSorted((a, b) => b.id - a.id).slice(0, MOST_HOLES);
  }

  /** Reads the directory's unknown positions, for display. Other daemons announce those that they hold. */
  async readAll(): Promise<void> {
    const epochs = this.#options.directory.epochs.filter(([source, epoch]) => !this.#known.has(keyOf(source, epoch)));
    const readOnes = async () => {
      for (let next = epochs.pop(); next; next = epochs.pop()) await this.#read(...next);
    };
    await Promise.all(Array.from({ length: READERS }, readOnes));
  }

  async #read(source: string, epoch: string): Promise<void> {
    const key = keyOf(source, epoch);
    const leave = await this.#turns(key);
    try {
      if (this.#known.has(key) || !(await this.#options.leases.tryTake(key))) return;
      await this.#take(source, epoch);
    } catch (error) {
      // Its source is refused; the others are not.
      if (explain(error).kind !== 'newer') throw error;
    } finally {
      leave();
    }
    await this.giveBack(key);
  }

  /** Positions that this daemon holds. */
  held(): Position[] {
    return [...this.#fresh].flatMap((key) => this.#known.get(key) ?? []);
  }

  /** Another daemon moved a position. */
  heard(position: Position): void {
    const key = keyOf(position.source, position.epoch);
    const known = this.#known.get(key);
    if (!this.#fresh.has(key) && !((known?.heardAt ?? 0) > position.heardAt)) this.#known.set(key, position);
  }

  /** Another daemon retired a source. */
  forgotten(source: string): void {
    for (const [key, position] of this.#known) if (position.source === source) this.#known.delete(key);
  }

  /** Acquires the position of a source's epoch, once no one else holds it, here or in another daemon. */
  async cursor(source: string, epoch: string, keep: (baseline: boolean) => CommitOf): Promise<Cursor> {
    const key = keyOf(source, epoch);
    const leave = await this.#turns(key);
    try {
      await this.#take(source, epoch);
    } catch (error) {
      leave();
      throw error;
    }
    const known = this.#known;
    return {
      get last() {
        return known.get(key)?.last;
      },
      get newestAt() {
        return known.get(key)?.newestAt;
      },
      commit: async (admission, progress) => {
        await keep(!known.has(key))(admission);
        await this.#move(source, epoch, progress);
      },
      release: leave,
    };
  }

  /** Another daemon requests a lease: releases it once its open operations have ended. */
  async giveBack(what: string): Promise<void> {
    if (!this.#taken.has(what)) return;
    const leave = await this.#turns(what);
    try {
      this.#fresh.delete(what);
      if (this.#taken.delete(what)) await this.#options.leases.release(what);
    } catch {
      // The lease is lost with its connection.
    } finally {
      leave();
    }
  }

  async #take(source: string, epoch: string): Promise<void> {
    const { leases, connection, names } = this.#options;
    const key = keyOf(source, epoch);
    if (leases.has(key) && this.#fresh.has(key)) return; // As this daemon left it.
    this.#fresh.delete(key);
    await leases.take(key);
    this.#taken.add(key);
    const current = connection();
    if (!current) throw new PusherError('OUTBOX_UNUSABLE', 'outbox: not connected to RabbitMQ');
    const found = (await readLast(current, names.position(source, epoch)).catch(async (error: unknown) => {
      // Another daemon may be able to read it.
      this.#taken.delete(key);
      await leases.release(key).catch(() => undefined);
      throw error;
    })) as Position | undefined;
    if (found) this.#known.set(key, found);
    else this.#known.delete(key);
    this.#fresh.add(key);
  }

  async #move(source: string, epoch: string, progress: Progress): Promise<void> {
    const before = this.#known.get(keyOf(source, epoch));
    const at = this.#options.now();
    const { position: moved, hole } = advance(before, { ...progress, source, epoch }, at);
    // Ascending across all daemons, as far as their clocks agree.
    this.#lastHole = Math.max(this.#lastHole + 1, at * 1_000);
    const open = before?.open ?? [];
    const position = { ...moved, open: hole ? [{ id: this.#lastHole, ...hole }, ...open].slice(0, MOST_HOLES) : open };
    // Also if it was there, and the directory's queue was deleted.
    if (!this.#options.directory.hasEpoch(source, epoch)) await this.#options.directory.addEpoch(source, epoch);
    await this.#write(position);
    // Not awaited: another daemon may take long to release a lease.
    if (!before) void this.#forgetOutdated();
  }

  async #write(position: Position): Promise<void> {
    const { leases, names, write, moved } = this.#options;
    const { source, epoch } = position;
    const key = keyOf(source, epoch);
    if (!leases.has(key) || !this.#fresh.has(key))
      throw new PusherError('OUTBOX_UNUSABLE', 'outbox: lost the connection to RabbitMQ before it stored the position');
    try {
      await write(names.position(source, epoch), [JSON.stringify(position)]);
    } catch (error) {
      // The write may have succeeded or not, or the queue may be gone: declare and read it again before use.
      this.#fresh.delete(key);
      throw error;
    }
    this.#known.set(key, position);
    moved(position);
  }

  async #forgetOutdated(): Promise<void> {
    const { now, log } = this.#options;
    try {
      for (const { source, epoch } of outdated(this.#known.values(), now()))
        await this.#hold(source, epoch, async () => {
          // Only now does it know what another daemon heard since.
          const all = [...this.#known.values()];
          if (outdated(all, now()).some((each) => each.source === source && each.epoch === epoch))
            await this.#delete(source, epoch);
        });
    } catch {
      log.warn({}, "can't delete ended epochs of sources; retrying later");
    }
  }

  async #delete(source: string, epoch: string): Promise<void> {
    const { connection, names, directory } = this.#options;
    const current = connection();
    if (!current) throw new PusherError('OUTBOX_UNUSABLE', 'outbox: not connected to RabbitMQ');
    await deleteLast(current, names.position(source, epoch));
    await directory.removeEpochs((name, run) => name === source && run === epoch);
    this.#known.delete(keyOf(source, epoch));
    this.#fresh.delete(keyOf(source, epoch));
  }

  /** Runs an operation while nobody else can move a position. */
  async #hold(source: string, epoch: string, act: () => Promise<void>): Promise<void> {
    const leave = await this.#turns(keyOf(source, epoch));
    try {
      await this.#take(source, epoch);
      await act();
    } finally {
      leave();
    }
  }

  async #acknowledge(source?: string): Promise<number> {
    let count = 0;
    for (const known of [...this.#known.values()])
      if (known.open.length > 0 && (source === undefined || known.source === source))
        await this.#hold(known.source, known.epoch, async () => {
          const position = this.#known.get(keyOf(known.source, known.epoch));
          if (!position) return;
          count += position.open.length;
          await this.#write({ ...position, open: [] });
        });
    return count;
  }

  async #retire(source: string): Promise<boolean> {
    const epochs = this.#options.directory.epochs.filter(([name]) => name === source);
    for (const [name, epoch] of epochs) await this.#hold(name, epoch, () => this.#delete(name, epoch));
    return epochs.length > 0;
  }
}

/** Stores the notifications and dead letters of a batch. */
type CommitOf = (admission: Parameters<Cursor['commit']>[0]) => Promise<void>;
