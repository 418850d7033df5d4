/** Opens the configured outbox. */
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';
import { quotedCommand } from './config/commands.ts';
import type { PusherConfig } from './config/load.ts';
import { PusherError } from './errors.ts';
import { countOf } from './format.js';
import type { Log } from './log.ts';
import type { Outbox } from './outbox/outbox.ts';
import type { RabbitOutboxOptions } from './outbox/rabbitmq/options.ts';
import { rabbitOutbox } from './outbox/rabbitmq/rabbitmq.ts';
import { sqliteOutbox } from './outbox/sqlite/sqlite.ts';
import { type BrokerTls, brokerTls } from './rabbitmq/tls.ts';

/** The file for dead letters and, without RabbitMQ, notifications. */
export const outboxFileOf = ({ file, outbox }: PusherConfig): string => path.resolve(path.dirname(file), outbox.path);

/** @throws PusherError OUTBOX_UNUSABLE, OUTBOX_LOCKED, CONFIG_INVALID */
export function openOutbox(config: PusherConfig, log: Log): Outbox {
  const file = outboxFileOf(config);
  const { engine, max_bytes: maxBytes } = config.outbox;
  // Checked before the file is opened.
  if (engine === 'rabbitmq') brokerOf(config);
  const letters = sqliteOutbox({ file, maxBytes, log });
  if (engine === 'sqlite') {
    const handover = handoverFileOf(file);
    if (!existsSync(handover)) return letters;
    log.warn(
      { file: handover },
      'this file belongs to an outbox on RabbitMQ; this daemon does not publish what waits there',
    );
    return letters;
  }
  const left = letters.health().topics.reduce((sum, { depth }) => sum + depth, 0);
  if (left > 0) {
    void letters.close();
    const move = quotedCommand(['outbox', 'migrate', '--to', 'rabbitmq'], config.file);
    const advice = `empty it with ${move}, or start with engine = "sqlite" until it is empty`;
    throw new PusherError('OUTBOX_UNUSABLE', `outbox ${file} still has ${countOf(left, 'notification')}: ${advice}`);
  }
  return openRabbit(config, letters, log);
}

/** Opens the outbox on RabbitMQ. @param letters stores the dead letters, and is closed with it */
export function openRabbit(
  config: PusherConfig,
  letters: Outbox,
  log: Log,
  more: Pick<RabbitOutboxOptions, 'pollMs'> = {},
): Outbox {
  const { max_bytes: maxBytes, prefix, partitions } = config.outbox;
  const handoverFile = handoverFileOf(outboxFileOf(config));
  const url = addressOf(config);
  return rabbitOutbox({ ...brokerOf(config), prefix, partitions, letters, handoverFile, maxBytes, url, log, ...more });
}

/** Beside the file of dead letters: the state of partly delivered parcels. */
const handoverFileOf = (file: string): string => `${file}.parcels`;

/**
 * The connection options of the outbox's broker.
 * @throws PusherError CONFIG_INVALID if one of its files can't be read
 */
export function brokerOf({ file, outbox }: PusherConfig): { urls: readonly string[]; tls: () => BrokerTls } {
  return { urls: [outbox.url ?? []].flat(), tls: brokerTls(outbox, path.dirname(file), 'outbox') };
}

/** The URL of this daemon's console for others; undefined if only this machine can reach it. */
function addressOf({ admin }: PusherConfig): string | undefined {
  const { host, port } = admin.listen;
  if (port === 0) return undefined;
  const named = /^(0\.0\.0\.0|::)$/.test(host) ? hostname() : host;
  return `http://${named.includes(':') ? `[${named}]` : named}:${port}`;
}
