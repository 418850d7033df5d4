/** The command line's access to dead letters: by the running daemon, or in the outbox's file while none runs. */
import type { PusherConfig } from '../config/load.ts';
import { messageOf, PusherError } from '../errors.ts';
import { PROGRESS_TYPE, type ProgressLine } from '../ops/actions.ts';
import type {
  DeadLetter,
  DeadLetterCount,
  DeadLetterFilter,
  DeadLetterStore,
  DeadLetterSummary,
} from '../outbox/dead-letters.ts';
import { linesOfLetters } from '../outbox/letter-lines.ts';
import { deadLettersOn } from '../outbox/sqlite/dead-letters.ts';
import type { DaemonClient } from './daemon.ts';
import { withOutbox } from './with-outbox.ts';

export interface Letters extends Pick<DeadLetterStore, 'read' | 'counts' | 'requestReplay' | 'purge'> {
  /** Oldest first; with their content only if requested, which the daemon logs. */
  find(filter: DeadLetterFilter, limit: number, content: boolean): AsyncIterable<DeadLetterSummary | DeadLetter>;
  /** Returns the numbers that no dead letter has. */
  missing(ids: readonly number[]): Promise<number[]>;
  /** Counts the matches of a filter. */
  total(filter: DeadLetterFilter): Promise<number>;
  /** All matches of a filter as JSON lines, oldest first, with their content. */
  export(filter: DeadLetterFilter): AsyncIterable<string | Uint8Array>;
  /** Whether a daemon runs, to replay the marked ones. */
  readonly served: boolean;
}

/** Page size when reading, and most numbers in one request to the daemon. */
const PAGE = 100;
const MOST_IDS = 1_000;

/**
 * Runs `use` with the dead letters of the configured outbox.
 * @param options.change whether `use` changes any: then no daemon can start on the same file meanwhile
 * @throws PusherError OUTBOX_UNUSABLE, DAEMON_UNREACHABLE
 */
export async function withDeadLetters(
  config: PusherConfig,
  { change }: { change: boolean },
  use: (letters: Letters) => Promise<void>,
): Promise<void> {
  await withOutbox(
    config,
    { change },
    {
      running: (daemon) => use(lettersOf(daemon)),
      file: (database) => use(lettersIn(deadLettersOn(database))),
    },
  );
}

const lettersIn = (letters: Omit<DeadLetterStore, 'put'>): Letters => ({
  served: false,
  read: letters.read,
  counts: letters.counts,
  requestReplay: letters.requestReplay,
  purge: letters.purge,
  missing: (ids) => missing(ids, async (upToId) => (await letters.browse({ filter: { upToId }, ...FIRST })).letters),
  find: (filter, limit) => pages(limit, (size, after) => letters.find(filter, size, after)),
  total: async (filter) => (await letters.browse({ filter, ...FIRST })).total,
  export: (filter) => linesOfLetters(letters, filter),
});

function lettersOf(daemon: DaemonClient): Letters {
  const change = async (
    action: 'replay' | 'delete',
    { ids, reason, topic, match }: DeadLetterFilter,
    onProgress?: (count: number) => void,
  ): Promise<number> => {
    let sum = 0;
    const chunks = ids ? chunksOf(ids) : [undefined];
    for (const chunk of chunks) {
      const all = [chunk, reason, topic, match].every((each) => each === undefined);
      const body = { ids: chunk, reason, topic, match, ...(all && { all }) };
      const answer = await daemon.stream(`/api/dead-letters/${action}`, { body, accept: PROGRESS_TYPE });
      const before = sum;
      for await (const line of linesOf(answer, daemon.where)) {
        if ('error' in line) throw new PusherError('OUTBOX_UNUSABLE', `the daemon: ${line.error.message}`);
        sum = before + line.count;
        onProgress?.(sum);
      }
    }
    return sum;
  };
  return {
    served: true,
    read: (id) => daemon.find<DeadLetter>(`/api/dead-letters/${id}`),
    counts: async () => (await daemon.get<{ counts: DeadLetterCount[] }>('/api/dead-letters?limit=1')).counts,
    requestReplay: (filter, onProgress) => change('replay', filter, onProgress),
    purge: (filter, onProgress) => change('delete', filter, onProgress),
    missing: (ids) =>
      missing(ids, async (upTo) => (await daemon.get<Listed>(`/api/dead-letters?limit=1&upTo=${upTo}`)).letters),
    total: async (filter) =>
      (await daemon.get<{ total: number }>(`/api/dead-letters?${queryOf(filter, { limit: '1' })}`)).total,
    async *export(filter) {
      yield* await daemon.stream(`/api/dead-letters/export?${queryOf(filter)}`);
    },
    find: (filter, limit, content) =>
      pages(limit, async (size, after) => {
        const query = queryOf(filter, { limit: `${size}`, after: `${after}`, content: content ? 'yes' : 'no' });
        return (await daemon.get<{ letters: DeadLetterSummary[] }>(`/api/dead-letters/find?${query}`)).letters;
      }),
  };
}

interface Listed {
  readonly letters: DeadLetterSummary[];
}

/** Requests summaries only: the daemon logs access to what people wrote. */
async function missing(
  ids: readonly number[],
  newest: (upTo: number) => Promise<readonly DeadLetterSummary[]>,
): Promise<number[]> {
  const found: number[] = [];
  for (const id of ids) if ((await newest(id))[0]?.id !== id) found.push(id);
  return found;
}

/** The first page, only for its total. */
const FIRST = { sort: 'id', descending: true, offset: 0, limit: 1 } as const;

function queryOf({ reason, topic, match }: DeadLetterFilter, more: Record<string, string> = {}): URLSearchParams {
  const chosen = Object.entries({ reason, topic, match }).filter(
    (pair): pair is [string, string] => pair[1] !== undefined,
  );
  return new URLSearchParams([...Object.entries(more), ...chosen]);
}

async function* pages<T extends DeadLetterSummary>(
  limit: number,
  read: (size: number, after: number) => Promise<T[]>,
): AsyncGenerator<T> {
  let after = 0;
  for (let left = limit; left > 0; ) {
    const page = await read(Math.min(left, PAGE), after);
    yield* page;
    if (page.length < PAGE) return;
    left -= page.length;
    after = page.at(-1)?.id ?? after;
  }
}

const chunksOf = (ids: readonly number[]): (readonly number[])[] =>
  Array.from({ length: Math.ceil(ids.length / MOST_IDS) }, (_, n) => ids.slice(n * MOST_IDS, (n + 1) * MOST_IDS));

/** The lines of a change's response; the last one has the result. @throws PusherError DAEMON_UNREACHABLE */
async function* linesOf(answer: AsyncIterable<Uint8Array>, where: string): AsyncGenerator<ProgressLine> {
  const decoder = new TextDecoder();
  let text = '';
  try {
    for await (const chunk of answer) {
      const lines = (text + decoder.decode(chunk, { stream: true })).split('\n');
      text = lines.pop() as string;
      for (const line of lines) yield JSON.parse(line);
    }
  } catch (error) {
    throw error instanceof PusherError
      ? error
      : new PusherError(
          'DAEMON_UNREACHABLE',
          `the daemon at ${where} closed the connection: ${messageOf(error)}`,
          error,
        );
  }
}
