/** The command line's access to the outbox: by the running daemon, or in its file while none runs. */
import { existsSync, realpathSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import type { PusherConfig } from '../config/load.ts';
import { PusherError } from '../errors.ts';
import { outboxFileOf } from '../open-outbox.ts';
import { lockOutbox, openDatabase } from '../outbox/sqlite/schema.ts';
import type { DaemonClient } from './daemon.ts';
import { findDaemon } from './find-daemon.ts';

interface Uses<T> {
  /** Asks the daemon. */
  readonly running: (daemon: DaemonClient) => Promise<T>;
  /** Works on the file. */
  readonly file: (database: DatabaseSync) => Promise<T>;
}

/**
 * Runs the matching function on the configured outbox.
 * @param options.change whether it changes anything: then no daemon can start on the same file meanwhile
 * @throws PusherError OUTBOX_UNUSABLE, DAEMON_UNREACHABLE
 */
export async function withOutbox<T>(config: PusherConfig, { change }: { change: boolean }, uses: Uses<T>): Promise<T> {
  const file = outboxFileOf(config);
  const found = await findDaemon(config);
  if (found.kind === 'silent') throw new PusherError('DAEMON_UNREACHABLE', found.reason);
  if (found.kind === 'running') {
    try {
      return await uses.running(found.daemon);
    } finally {
      await found.daemon.close();
    }
  }
  if (!existsSync(file))
    throw new PusherError('OUTBOX_UNUSABLE', `outbox ${file} does not exist: the daemon creates it at its first start`);
  const lock = change ? lockOutbox(realpathSync(file)) : undefined;
  try {
    const database = openDatabase(file, { create: false });
    try {
      return await uses.file(database);
    } finally {
      database.close();
    }
  } finally {
    lock?.release();
  }
}
