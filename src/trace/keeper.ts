/**
 * Writes the record and the history on a separate thread, so that neither a slow, full or damaged disk nor a search of
 * millions of records delays deliveries or probes.
 *
 * Maintained invariants:
 * - Whatever happens to the file, every line is written or counted as lost, and every question is answered.
 * - An unusable file is renamed, always to the same name, so that at most one is kept.
 */
import { existsSync, renameSync, rmSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { messageOf } from '../errors.ts';
import { wantedOf } from '../notification/wanted.ts';
import { findLetters, findWaiting, openForReading, type Search } from '../outbox/sqlite/find.ts';
import { isDamage, TraceFile } from './file.ts';
import { addMoments, addSpan, type Moment, readHistory } from './history-file.ts';
import type { Asked, FromKeeper, InOutbox, InRecord, KeeperOptions, ToKeeper } from './messages.ts';
import { searchRecords } from './search.ts';

/** Interval for deleting old records and writing a heartbeat, in milliseconds. */
const TEND_MS = 10_000;
/** Delay before trying an unusable file again, in milliseconds. */
const RETRY_MS = 5_000;

const NOTHING: InRecord = { records: [], unreadable: 0, since: undefined, bytes: 0 };

export interface Keeper {
  take(message: ToKeeper): void;
  close(): void;
}

/**
 * @param tell called with messages for the daemon
 * @param now milliseconds since the Unix epoch
 */
export function createKeeper(
  options: KeeperOptions,
  tell: (message: FromKeeper) => void,
  now: () => number = Date.now,
): Keeper {
  let file: TraceFile | undefined;
  let problem: string | undefined;
  let nextTry = 0;
  let begun = false;

  const state = () => tell({ kind: 'state', problem, coverage: coverageOf() });
  const coverageOf = () => {
    try {
      return file?.coverage(now());
    } catch {
      return undefined; // The next write meets the fault and reports it.
    }
  };

  const open = (): TraceFile => {
    const opened = new TraceFile(options.file, options, begun ? now() : options.startedAt);
    file = opened;
    if (!begun) beginRun(opened, options.startedAt);
    else if (opened.about('running') === undefined) noteRun(opened, now());
    begun = true;
    return opened;
  };

  /** Renames the file and creates a new one. */
  const replace = (why: string) => {
    file?.close();
    file = undefined;
    const to = `${options.file}.damaged`;
    for (const suffix of ['', '-wal', '-shm']) {
      rmSync(to + suffix, { force: true });
      if (existsSync(options.file + suffix)) renameSync(options.file + suffix, to + suffix);
    }
    tell({ kind: 'aside', problem: why, to });
    open();
  };

  /** Runs an operation on the file; undefined, and false in `done`, if the file is unusable now. */
  const attempt = <T>(use: (file: TraceFile) => T): { done: true; value: T } | { done: false } => {
    if (!file && now() < nextTry && now() > nextTry - 2 * RETRY_MS) return { done: false };
    for (let tries = 0; ; tries++) {
      try {
        const value = use(file ?? open());
        if (problem !== undefined) {
          problem = undefined;
          state();
        }
        return { done: true, value };
      } catch (error) {
        if (isDamage(error) && tries === 0) {
          try {
            replace(messageOf(error));
            continue;
          } catch (failure) {
            return fail(failure);
          }
        }
        return fail(error);
      }
    }
  };
  const fail = (error: unknown): { done: false } => {
    file?.close();
    file = undefined;
    nextTry = now() + RETRY_MS;
    const found = messageOf(error);
    if (problem !== found) {
      problem = found;
      state();
    }
    return { done: false };
  };

  const tend = () => {
    attempt((file) => {
      file.prune(now());
      file.remember('alive', now());
    });
    state();
  };

  const answer = async (id: number, work: () => Promise<unknown>) => {
    try {
      tell({ kind: 'answer', id, value: await work() });
    } catch (error) {
      tell({ kind: 'answer', id, error: messageOf(error) });
    }
  };

  const record = async (asked: Asked): Promise<InRecord> => {
    const opened = attempt((file) => file);
    if (!opened.done) return NOTHING;
    try {
      return { ...(await searchRecords(opened.value, searchOf(asked))), ...opened.value.coverage(now()) };
    } catch (error) {
      // Renames it if it is damaged.
      attempt(() => {
        throw error;
      });
      return NOTHING;
    }
  };

  attempt(() => undefined);
  state();
  const tending = setInterval(tend, TEND_MS);

  return {
    take(message) {
      if (message.kind === 'append') {
        const { portion } = message;
        const written = attempt((file) => file.append(portion)).done;
        const { content, records } = portion;
        const memory = content.buffer as ArrayBuffer;
        tell({ kind: 'done', bytes: content.length, lost: written ? 0 : records, memory });
      } else if (message.kind === 'span') {
        attempt(({ database }) => addSpan(database, message.span));
      } else if (message.kind === 'moments') {
        attempt(({ database }) => addMoments(database, message.moments));
      } else if (message.kind === 'outbox') {
        void answer(message.id, () => searchFile(options.outboxFile, message.asked));
      } else if (message.kind === 'record') {
        void answer(message.id, () => record(message.asked));
      } else if (message.kind === 'history') {
        const found = attempt(({ database }) => readHistory(database));
        void answer(message.id, async () => (found.done ? found.value : { minutes: [], tens: [], moments: [] }));
      } else {
        attempt((file) => endRun(file, now()));
        this.close();
        void answer(message.id, async () => undefined);
      }
    },
    close() {
      clearInterval(tending);
      file?.close();
      file = undefined;
    },
  };
}

async function searchFile(outboxFile: string, asked: Asked): Promise<InOutbox> {
  const database = openForReading(outboxFile);
  try {
    return await searchOutbox(database, asked);
  } finally {
    database.close();
  }
}

/** Searches an outbox. */
export async function searchOutbox(database: DatabaseSync, asked: Asked): Promise<InOutbox> {
  const search = searchOf(asked);
  const { found: waiting, looked } = await findWaiting(database, search);
  return { waiting, looked, letters: await findLetters(database, search) };
}

export const searchOf = ({ text, ...rest }: Asked): Search => ({
  wanted: wantedOf(text),
  ...rest,
  pause: () => nextTurn(),
});

/** Notes the start and, if the previous run was killed, its last heartbeat. */
function beginRun(file: TraceFile, now: number): void {
  const moments: Moment[] = [];
  const [running, alive] = [file.about('running'), file.about('alive')];
  if (running !== undefined) {
    const at = Math.max(running, alive ?? 0);
    const text = 'ended without a stop: the process was killed, or the machine went down; this is when it last ran';
    moments.push({ at, kind: 'killed', text });
  }
  moments.push({ at: now, kind: 'start', text: 'the daemon started' });
  addMoments(file.database, moments);
  noteRun(file, now);
}

function noteRun(file: TraceFile, now: number): void {
  file.remember('running', now);
  file.remember('alive', now);
}

function endRun(file: TraceFile, now: number): void {
  addMoments(file.database, [{ at: now, kind: 'stop', text: 'the daemon stopped' }]);
  file.forget('running');
}
