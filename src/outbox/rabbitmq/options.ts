/** What the outbox on RabbitMQ is opened with. */
import type { Log } from '../../log.ts';
import type { TlsSource } from '../../rabbitmq/tls.ts';
import type { Outbox } from '../outbox.ts';

export interface RabbitOutboxOptions {
  /** Addresses of the broker's nodes, `amqp://user:password@host:port/vhost` or `amqps:`. */
  readonly urls: readonly string[];
  readonly tls?: TlsSource | undefined;
  /** Prefix of the names of queues and exchange: daemons with the same prefix share the work. */
  readonly prefix: string;
  /** Queues per topic. */
  readonly partitions: number;
  /** Stores this daemon's dead letters, and is closed with the outbox. */
  readonly letters: Outbox;
  /** File for the parcels' settled places when the daemon stops. */
  readonly handoverFile: string;
  /** Size limit of each topic, in bytes; beyond it `commit` rejects. */
  readonly maxBytes: number;
  /** URL of this daemon's console, for the others' consoles. */
  readonly url?: string | undefined;
  readonly log: Log;
  readonly now?: () => number;
  /** Interval for polling the queues' depths, in milliseconds. Default: 2 s. */
  readonly pollMs?: number;
  /** How long a delivery stays unacknowledged before its channel is renewed, in milliseconds. Default: 10 minutes. */
  readonly renewMs?: number;
  /** Grace for open requests of a partition that is given up, in milliseconds. Default: 6 s. */
  readonly leaveMs?: number;
  /** How long a stop waits for each answer of the broker, in milliseconds. Default: 3 s. */
  readonly stopMs?: number;
  /** The silence after which another daemon is considered gone, in milliseconds. Default: 5 s. */
  readonly silentMs?: number;
  /** How long the broker may take for a confirm before the write fails, in milliseconds. Default: 10 s. */
  readonly confirmMs?: number;
  /** Unacknowledged parcels of a partition. Default: 10. */
  readonly prefetch?: number;
  /** Most bytes of parcels in memory, all partitions together. Default: 24 MiB. */
  readonly mostBytes?: number;
}
