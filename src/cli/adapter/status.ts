/** `adapter status`: an adapter's copies, options and queues, and whether its events reach the daemon. */
import { z } from 'zod';
import { quotedCommand } from '../../config/commands.ts';
import { messageOf } from '../../errors.ts';
import { countOf } from '../../format.js';
import { type ConfigFlags, readConfig } from '../configuration.ts';
import { connectToDaemon, type DaemonClient } from '../daemon.ts';
import { adapterCheck } from './check.ts';
import { queueStatus } from './queue.ts';
import type { AdapterServer, FoundAdapter, Settings, Where } from './server.ts';
import type { KnownTap } from './tap.ts';

export interface Line {
  readonly level: 'ok' | 'warn' | 'fail';
  readonly text: string;
}

export interface StatusOptions {
  readonly where: Where;
  /** Undefined if this machine has no configuration: then the tap itself checks the secret. */
  readonly tap: KnownTap | undefined;
  readonly ca?: string;
  readonly envFile?: string;
}

export async function* adapterStatus(
  server: AdapterServer,
  { where, tap, ca, envFile }: StatusOptions,
): AsyncGenerator<Line> {
  const found = server.find(where);
  yield* copies(found);
  for (const text of found.problems) yield { level: 'fail', text };
  for (const each of found.settings) yield settings(each, tap);
  for (const text of found.warnings ?? []) yield { level: 'warn', text };
  yield* queues(found);
  for (const one of distinct(found.settings)) {
    const { ok, text } = await adapterCheck({ tap: one, ca, right: tap?.url });
    yield { level: ok ? 'ok' : 'fail', text };
  }
  if (tap?.config !== undefined) yield* await heard(server.name, { config: tap.config, envFile });
}

function* copies({ copies }: FoundAdapter): Generator<Line> {
  const [first, ...others] = copies;
  if (!first) yield { level: 'fail', text: "not installed in the server's module folder" };
  else yield { level: 'ok', text: `version ${first.version} in ${first.path}` };
  for (const { path, version } of others)
    yield {
      level: 'fail',
      text: `installed twice: also in ${path}, version ${version}; remove one of them`,
    };
}

function settings({ domain, file, url, secret }: Settings, tap: KnownTap | undefined): Line {
  const who = domain ?? 'all domains';
  if (url === undefined) return { level: 'fail', text: `${who}: no url is set in ${file}` };
  if (tap === undefined) return { level: 'ok', text: `${who}: posts to ${url}, set in ${file}` };
  const wrong = [
    ...(url === tap.url ? [] : [`posts to ${url}, but the daemon's tap is ${tap.url}, says ${tap.from}`]),
    ...(tap.secret === undefined || secret === tap.secret
      ? []
      : [`${secret === undefined ? 'has no secret' : 'has another secret'} than the daemon by ${tap.from}`]),
  ];
  if (wrong.length === 0)
    return { level: 'ok', text: `${who}: posts to ${url} with the daemon's secret, set in ${file}` };
  // Another name may lead to the same tap; a wrong secret is refused under any name.
  const level = url === tap.url || wrong.length > 1 ? 'fail' : 'warn';
  return { level, text: `${who}: ${wrong.join(', and ')}; set in ${file}` };
}

function* queues({ queues }: FoundAdapter): Generator<Line> {
  for (const folder of queues) {
    const status = queueStatus(folder);
    if (!status) {
      yield { level: 'warn', text: `${folder}: the queue's length is unknown; the adapter has not run yet` };
      continue;
    }
    const { waiting, contact, problem } = status;
    const when =
      contact === undefined ? 'the daemon has accepted none yet' : `the daemon last accepted events ${time(contact)}`;
    const why = problem === undefined ? '' : `; the last attempt failed: ${problem}`;
    yield {
      level: problem === undefined ? 'ok' : 'warn',
      text: `${folder}: ${countOf(waiting, 'event waits', 'events wait')}; ${when}${why}`,
    };
  }
}

/** The distinct pairs of url and secret: most domains share one. */
function distinct(settings: readonly Settings[]): { url: string; secret: string | undefined }[] {
  const pairs = new Map<string, { url: string; secret: string | undefined }>();
  for (const { url, secret } of settings)
    if (url !== undefined) pairs.set(JSON.stringify([url, secret]), { url, secret });
  return [...pairs.values()];
}

const sourceView = z.object({
  source: z.string(),
  heardAt: z.number(),
  /** Unacknowledged holes. */
  newHoles: z.number(),
  newestHole: z.object({ missing: z.number(), at: z.number() }).optional(),
});
const greeting = z.object({ state: z.object({ sources: z.array(sourceView) }) });

const UNHEARD =
  'it reports the first login. If nothing comes then, the server has not loaded the adapter: restart it, and read its log';

/** The running daemon's data on a server's adapters. */
async function heard(server: string, flags: ConfigFlags): Promise<Line[]> {
  let daemon: DaemonClient | undefined;
  try {
    daemon = await connectToDaemon(readConfig(flags, { uses: 'outbox' }));
    const { state } = greeting.parse(JSON.parse(await firstEvent(await daemon.stream('/api/live'))));
    const sources = state.sources.filter(({ source }) => source.startsWith(`${server}/`));
    if (sources.length === 0)
      return [{ level: 'warn', text: `the daemon has not heard from ${server} yet: ${UNHEARD}` }];
    return sources.map((source) => heardOf(source, flags.config));
  } catch (error) {
    return [{ level: 'warn', text: `can't ask the daemon what it received: ${messageOf(error)}` }];
  } finally {
    await daemon?.close();
  }
}

/** Acknowledged holes don't count. */
function heardOf(
  { source, heardAt, newHoles, newestHole }: z.infer<typeof sourceView>,
  configFile: string | undefined,
): Line {
  const text = `the daemon last heard from ${source} ${time(heardAt)}`;
  if (newHoles === 0) return { level: 'ok', text };
  const newest =
    newestHole && `${countOf(newestHole.missing, 'event is', 'events are')} missing, noticed ${time(newestHole.at)}`;
  const holes = newHoles === 1 ? newest : `${countOf(newHoles, 'hole')} in its numbers, the newest: ${newest}`;
  return {
    level: 'warn',
    text: `${text}; ${holes}; see its log, then ${quotedCommand(['sources', 'acknowledge'], configFile, source)}`,
  };
}

/** The data of the first event of a live feed. */
async function firstEvent(feed: AsyncIterable<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of feed) {
    text += decoder.decode(chunk, { stream: true });
    const end = text.indexOf('\n\n');
    if (end >= 0) return text.slice(text.indexOf('data: ') + 'data: '.length, end);
  }
  throw new Error('its feed ended');
}

const time = (at: number): string => `at ${new Date(at).toISOString()}`;
