/** Finds out whether a daemon has the configured outbox open, and how to reach it. */
import { existsSync, realpathSync } from 'node:fs';
import type { PusherConfig } from '../config/load.ts';
import { messageOf, PusherError } from '../errors.ts';
import { outboxFileOf } from '../open-outbox.ts';
import { lockOutbox } from '../outbox/sqlite/schema.ts';
import { connectByAddress, connectBySocket, type DaemonClient } from './daemon.ts';

export type FoundDaemon =
  | { readonly kind: 'running'; readonly daemon: DaemonClient }
  /** None runs on this outbox. */
  | { readonly kind: 'none' }
  /** A daemon seems to have the outbox open, but is unreachable. */
  | { readonly kind: 'silent'; readonly reason: string };

/** Tries the socket, then checks whether the outbox is in use at all, and only then tries the configured address. */
export async function findDaemon(config: PusherConfig): Promise<FoundDaemon> {
  const file = outboxFileOf(config);
  const bySocket = await connectBySocket(config).catch((error: unknown) => messageOf(error));
  if (typeof bySocket !== 'string') return { kind: 'running', daemon: bySocket };
  const locked = lockedBy(file);
  if (!locked) return { kind: 'none' };
  const byAddress = await connectToOwner(config, file).catch((error: unknown) => messageOf(error));
  if (typeof byAddress !== 'string') return { kind: 'running', daemon: byAddress };
  const inUse = locked.code === 'OUTBOX_LOCKED';
  const what = inUse
    ? `a daemon has the outbox ${file} open, but can't be reached`
    : `${locked.message}; and no daemon can be reached`;
  return { kind: 'silent', reason: `${what}: ${bySocket}; ${byAddress}` };
}

/** Connects to the address. @throws PusherError DAEMON_UNREACHABLE where the daemon there has another outbox */
async function connectToOwner(config: PusherConfig, file: string): Promise<DaemonClient> {
  const daemon = await connectByAddress(config);
  const { outbox } = daemon.identity;
  if (outbox !== undefined && realPath(outbox) === realPath(file)) return daemon;
  await daemon.close();
  throw new PusherError(
    'DAEMON_UNREACHABLE',
    `the daemon at ${daemon.where} uses a different outbox, ${outbox ?? 'in memory'}`,
  );
}

/** Why the outbox can't be opened now; undefined when no process has it open, or there is none. */
function lockedBy(file: string): PusherError | undefined {
  if (!existsSync(file)) return undefined;
  try {
    lockOutbox(realpathSync(file)).release();
    return undefined;
  } catch (error) {
    if (error instanceof PusherError) return error;
    throw error;
  }
}

const realPath = (file: string): string => (existsSync(file) ? realpathSync(file) : file);
