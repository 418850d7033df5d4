/** Moves the backlog and the sources' positions from one outbox to another, of either kind. */
import { setTimeout as sleep } from 'node:timers/promises';
import { PusherError } from '../errors.ts';
import { type Backlog, costOf, type Outbox, type Stored } from './outbox.ts';
import { MOST_LISTED } from './sources.ts';

/** A topic's credit while moving. */
const WINDOW = 2_000;
const LOOK_MS = 20;
/** How long the outbox may be unusable before the move ends, in milliseconds. */
const FAULTY_MS = 30_000;

export interface Moved {
  readonly notifications: number;
  readonly sources: number;
}

/**
 * Moves everything. A notification is removed from one outbox once the other has it: after an interruption, the next
 * call continues, and repeats notifications in transit.
 * @param quietMs how long a topic must be silent before it counts as empty, if its depth is only an estimate
 */
export async function moveOutbox(from: Outbox, to: Outbox, quietMs: number): Promise<Moved> {
  const sources = await movePositions(from, to);
  let notifications = 0;
  for (const topic of [...from.topics()]) notifications += await moveTopic(from, to, topic, quietMs);
  return { notifications, sources };
}

async function movePositions(from: Outbox, to: Outbox): Promise<number> {
  const states = await from.sources.list(MOST_LISTED);
  for (const { source, epoch, last } of states) {
    const before = await from.source(source, epoch);
    const { newestAt } = before;
    before.release();
    const cursor = await to.source(source, epoch);
    try {
      if ((cursor.last ?? 0) < last)
        await cursor.commit({ notifications: [], deadLetters: [] }, { last, missing: 0, newestAt });
    } finally {
      cursor.release();
    }
  }
  return states.length;
}

async function moveTopic(from: Outbox, to: Outbox, topic: string, quietMs: number): Promise<number> {
  let arrived: Stored[] = [];
  let moved = 0;
  let lastAt = performance.now();
  const backlog: Backlog = from.backlog(topic, (notifications) => void arrived.push(...notifications));
  backlog.request(WINDOW);
  let faultyAt: number | undefined;
  const depth = () => from.health().topics.find((each) => each.topic === topic)?.depth ?? 0;
  try {
    while (arrived.length > 0 || depth() > 0 || performance.now() - lastAt < quietMs) {
      const { fault } = from.health();
      faultyAt = fault === undefined ? undefined : (faultyAt ?? performance.now());
      // A queue that can't be read is not silent because it is empty.
      if (fault !== undefined) lastAt = performance.now();
      if (faultyAt !== undefined && performance.now() - faultyAt > FAULTY_MS)
        throw new PusherError(
          'OUTBOX_UNUSABLE',
          `not everything is moved: ${fault}; fix that, and run the command again`,
        );
      const batch = arrived;
      arrived = [];
      if (batch.length === 0) {
        await sleep(LOOK_MS);
        continue;
      }
      await to.commit({ notifications: batch.map(({ seq: _, ...notification }) => notification), deadLetters: [] });
      await backlog.settle(batch.map((notification) => ({ notification })));
      moved += batch.length;
      lastAt = performance.now();
      backlog.request(batch.reduce((sum, { bytes }) => sum + costOf(bytes), 0));
    }
  } finally {
    await backlog.close();
  }
  return moved;
}
