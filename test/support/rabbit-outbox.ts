/** Outboxes on RabbitMQ for tests: as many daemons of one prefix as a test wants, each with a folder for its dead letters. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SILENT } from '../../src/log.ts';
import type { Outbox } from '../../src/outbox/outbox.ts';
import type { RabbitOutboxOptions } from '../../src/outbox/rabbitmq/options.ts';
import { rabbitOutbox } from '../../src/outbox/rabbitmq/rabbitmq.ts';
import { sqliteOutbox } from '../../src/outbox/sqlite/sqlite.ts';
import { until } from './process.ts';

export interface RabbitHouse {
  [Symbol.asyncDispose](): Promise<void>;
  readonly prefix: string;
  /** Opens a daemon's outbox, by default waits for its connection. Opened again, it has its dead letters. */
  open(
    options?: Partial<RabbitOutboxOptions> & { readonly daemon?: string; readonly connected?: boolean },
  ): Promise<Outbox>;
}

let prefixes = 0;

/** @param url of the broker's vhost; each house has its own prefix there */
export async function openHouse(url: string, defaults: Partial<RabbitOutboxOptions> = {}): Promise<RabbitHouse> {
  const dir = await mkdtemp(join(tmpdir(), 'rabbit-outbox-'));
  const prefix = `t${++prefixes}`;
  const opened: Outbox[] = [];
  return {
    prefix,
    async open({ daemon = 'a', connected = true, ...options } = {}) {
      const { now = Date.now, maxBytes = 67_108_864 } = options;
      const file = join(dir, `${daemon}.db`);
      const letters = sqliteOutbox({ file, maxBytes, now });
      const outbox = rabbitOutbox({
        urls: [url],
        prefix,
        partitions: 2,
        letters,
        handoverFile: `${file}.parcels`,
        maxBytes,
        log: SILENT,
        pollMs: 100,
        leaveMs: 300,
        ...defaults,
        ...options,
      });
      opened.push(outbox);
      if (connected) await until('the outbox to be connected', () => outbox.fault === undefined);
      return outbox;
    },
    async [Symbol.asyncDispose]() {
      // An outbox that a failed test left open would keep the process alive.
      await Promise.all(opened.map((outbox) => outbox.close()));
      await rm(dir, { recursive: true, force: true });
    },
  };
}
