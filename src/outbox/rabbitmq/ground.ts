/** What the consumers of an outbox on RabbitMQ share. */
import type { ChannelModel } from 'amqplib';
import type { Log } from '../../log.ts';
import type { NewDeadLetter } from '../dead-letters.ts';
import type { Depths } from './depths.ts';
import type { Marks } from './marks.ts';

export interface Ground {
  /** Undefined while disconnected. */
  connection(): ChannelModel | undefined;
  /** Declares a partition's queue, except one of a former number of partitions. */
  declare(queue: string): Promise<void>;
  /** Whether a queue gets no new messages. */
  isFormer(queue: string): boolean;
  /** Rereads the numbers of partitions. */
  refresh(): Promise<void>;
  /** A queue is missing: it has to be declared again. */
  missing(queue: string): void;
  /** Most unacknowledged parcels of a consumer. */
  readonly prefetch: number;
  /** Most bytes of them that it keeps. */
  mostBytes(): number;
  /** Reserves numbers for a parcel's places. @returns the first */
  reserve(places: number): number;
  /** Stores dead letters; waits while the disk fails. */
  bury(letters: readonly NewDeadLetter[]): Promise<void>;
  /** State of partitions that this daemon doesn't consume. */
  memoryOf(queue: string): PartitionMemory;
  /** Settled places of unacknowledged parcels, by parcel id. */
  readonly settled: Map<string, string>;
  /** Announces the settled places of parcels that return to their queue. */
  gaveBack(parcels: readonly (readonly [id: string, places: string])[]): void;
  readonly depths: Depths;
  readonly log: Log;
  /** How long a delivery may stay unacknowledged before its channel is renewed, in milliseconds. */
  readonly renewMs: number;
  /** Grace for open requests of a partition that is given up, in milliseconds. */
  readonly leaveMs: number;
  /** How long a consumer that stops waits for each answer of the broker, in milliseconds. */
  readonly stopMs: number;
}

/** State of a partition that outlives its consumer in this process. */
export interface PartitionMemory {
  readonly marks: Marks;
  /** Ids of recently acknowledged parcels: a lost connection may lose the acknowledgement. */
  readonly acknowledged: Set<string>;
}
