/** Names and declarations of the outbox's queues. All names begin with the configured prefix. */
import { createHash } from 'node:crypto';

/** Hashes the name of a topic or source, which may be long and have any characters. */
const digest = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16);

export interface Names {
  /** One of a topic's partitions; `count` is how many the topic has. */
  partition(topic: string, count: number, index: number): string;
  /** The last position of one source's epoch. */
  position(source: string, epoch: string): string;
  /** The directory of topics and epochs: AMQP can't list queues. */
  readonly directory: string;
  /** The exchange for the daemons' announcements. */
  readonly daemons: string;
  /** A daemon's queue on that exchange. */
  daemon(id: string): string;
  /** An exclusive queue of one connection: its owner holds the lease. */
  lease(what: string): string;
}

export const namesOf = (prefix: string): Names => ({
  partition: (topic, count, index) => `${prefix}.${digest(topic)}.${count}.${index}`,
  position: (source, epoch) => `${prefix}.position.${digest(`${source}\n${epoch}`)}`,
  directory: `${prefix}.directory`,
  daemons: `${prefix}.daemons`,
  daemon: (id) => `${prefix}.daemon.${id}`,
  lease: (what) => `${prefix}.lease.${digest(what)}`,
});

/** Which of `count` partitions an order key belongs to: FNV-1a over its UTF-16 code units. */
export function partitionOf(orderKey: string, count: number): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < orderKey.length; index++)
    hash = Math.imul(hash ^ orderKey.charCodeAt(index), 0x01000193) >>> 0;
  return hash % count;
}

/**
 * RabbitMQ 4 drops a message after 20 redeliveries unless the queue says otherwise, and 3.x has no number for "never":
 * one that is never reached.
 */
const QUORUM = { 'x-queue-type': 'quorum', 'x-delivery-limit': 1_000_000_000 };

/** A full queue rejects new messages; it drops none. */
export const partitionArguments = (maxBytes: number): Record<string, unknown> => ({
  ...QUORUM,
  'x-single-active-consumer': true,
  'x-overflow': 'reject-publish',
  'x-max-length-bytes': maxBytes,
});

/** Keeps the last message only. */
export const LAST_VALUE: Record<string, unknown> = { ...QUORUM, 'x-max-length': 1, 'x-overflow': 'drop-head' };
