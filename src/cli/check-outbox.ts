/** `check`'s findings on the outbox: from the running daemon, or from the file while none runs. */

import { accessSync, constants, existsSync, statfsSync, statSync } from 'node:fs';
import path from 'node:path';
import { quotedCommand } from '../config/commands.ts';
import type { PusherConfig } from '../config/load.ts';
import { messageOf } from '../errors.ts';
import { countOf, bytes as size } from '../format.js';
import { outboxFileOf } from '../open-outbox.ts';
import type { State } from '../ops/state.ts';
import type { Hole } from '../outbox/sources.ts';
import { openDatabase, ownerProblem, pragma } from '../outbox/sqlite/schema.ts';
import { readHoles } from '../outbox/sqlite/sources.ts';
import { type Finding, failed } from '../sns/check/diagnosis.ts';

const WHAT = 'outbox';
/** Most holes shown, the newest ones. */
const MOST_SHOWN = 20;
/** Free bytes without which the daemon doesn't start: the file, its log, and the reserve of a small disk. */
const LEAST_FREE = 1_000_000;

/** Of an outbox that no daemon has open. */
export function examineOutbox(config: PusherConfig): Finding[] {
  const file = outboxFileOf(config);
  if (!existsSync(file)) {
    const problem = folderProblem(path.dirname(file));
    const advice = existsSync(path.dirname(file))
      ? 'fix that, or correct outbox.path'
      : 'make the folder, owned by the user who runs the daemon (the systemd unit makes its own), or correct outbox.path';
    if (problem) return [failed(WHAT, problem, 'the daemon would not start', advice)];
    const full = room(path.dirname(file));
    if (full) return [full];
    return [{ what: WHAT, level: 'ok', seen: `the daemon creates ${file} at its first start` }];
  }
  try {
    const full = room(path.dirname(file));
    return full ? [full] : examineFile(file, config);
  } catch (error) {
    return [failed(WHAT, messageOf(error), 'the daemon would not start', 'fix that, and check again')];
  }
}

function examineFile(file: string, config: PusherConfig): Finding[] {
  const database = openDatabase(file, { create: false });
  try {
    const verdict = Object.values(database.prepare('PRAGMA quick_check(1)').get() ?? {})[0];
    if (verdict !== 'ok')
      return [failed(WHAT, `${file}: ${verdict}`, 'the file is damaged', 'restore it from a backup, or move it away')];
    // On a read-only file, SQLite starts a transaction as a reading one: only a write shows the problem.
    database.exec('BEGIN IMMEDIATE; CREATE TABLE written (x); ROLLBACK;');
    const pages = pragma(database, 'page_count') - pragma(database, 'freelist_count');
    const bytes = pages * pragma(database, 'page_size');
    const holes = readHoles(database);
    const found = [...ownership(file), ...fullness(bytes, config), ...losses(holes, config.file)];
    return found.length > 0 ? found : [{ what: WHAT, level: 'ok', seen: `${file} can be written` }];
  } finally {
    database.close();
  }
}

/** Findings from a running daemon's state. The reasons why it isn't ready are listed with the daemon. */
export function examineOpenOutbox(config: PusherConfig, { outbox, sources }: State): Finding[] {
  const found = losses(
    sources.flatMap(({ newestHole }) => newestHole ?? []),
    config.file,
  );
  if (found.length > 0) return found;
  const seen = `${outboxFileOf(config)} holds ${size(outbox.bytes)} of ${size(outbox.maxBytes)}`;
  return [{ what: WHAT, level: 'ok', seen }];
}

/** The disk's lack of free space, if the daemon would fail for that. */
function room(folder: string): Finding | undefined {
  const { bavail, bsize } = statfsSync(folder);
  if (bavail * bsize >= LEAST_FREE) return undefined;
  return failed(
    WHAT,
    `the disk of ${folder} is full: ${size(bavail * bsize)} are free`,
    'the daemon would not start, or would answer 503 to the adapters',
    'make room on the disk, or set outbox.path to a folder on another one',
  );
}

/** Root may write what the service's own user may not. */
function ownership(file: string): Finding[] {
  const problem = ownerProblem(file);
  if (problem === undefined) return [];
  return [{ what: WHAT, level: 'warn', means: "a daemon that runs as the folder's owner can't start", ...problem }];
}

function fullness(bytes: number, { file, outbox: { max_bytes: maxBytes } }: PusherConfig): Finding[] {
  if (bytes < maxBytes) return [];
  return [
    failed(
      WHAT,
      `it is full: it holds ${size(bytes)}, outbox.max_bytes is ${size(maxBytes)}`,
      'the daemon answers 503 to the adapters until SNS accepts some of it',
      `fix what keeps notifications from being sent, delete dead letters (${quotedCommand(['dead-letters', 'list'], file)} shows them), or raise outbox.max_bytes`,
    ),
  ];
}

/** @param holes unacknowledged ones, at least the newest of each source */
function losses(holes: readonly Hole[], configFile: string): Finding[] {
  return holes.slice(0, MOST_SHOWN).map(({ source, epoch, first, last, missing, at }) => ({
    what: `${WHAT}: source ${source}`,
    level: 'warn',
    seen:
      first === undefined
        ? `${countOf(missing, 'event is', 'events are')} missing in its numbers, noticed by an earlier release`
        : `events ${first} to ${last} of ${epoch} are missing, noticed at ${new Date(at).toISOString()}`,
    means: "they never arrived: an adapter's queue was full and dropped the newest, or its files were lost",
    advice: `see the XMPP server's log of that time, then run ${quotedCommand(['sources', 'acknowledge'], configFile, source)}`,
  }));
}

/** Why no file can be made in a folder; undefined when one can. */
function folderProblem(folder: string): string | undefined {
  const found = statSync(folder, { throwIfNoEntry: false });
  if (!found) return `the folder ${folder} does not exist`;
  if (!found.isDirectory()) return `${folder} is not a folder`;
  try {
    accessSync(folder, constants.W_OK | constants.X_OK);
    return undefined;
  } catch (error) {
    return `the folder ${folder} can't be written by this user: ${messageOf(error)}`;
  }
}
