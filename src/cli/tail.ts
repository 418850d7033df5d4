/** `tail`: notifications as SNS takes them, read from a running daemon's admin address. */
import { Command } from 'commander';
import { request } from 'undici';
import { loadConfig } from '../config/load.ts';
import type { AdminOptions } from '../config/options.ts';
import { messageOf, PusherError } from '../errors.ts';
import type { TailLine, TailLines } from '../ops/live.ts';
import { configOption } from './options.ts';

export function tailCommand(): Command {
  return new Command('tail')
    .description('Print notifications as SNS takes them, one line each, the last few first.')
    .addOption(configOption())
    .option('--json', 'JSON lines, for machines')
    .option('--bodies', 'with what is published; that goes to the log of the daemon')
    .action(({ config, ...options }: { config: string } & TailOptions) => follow(loadConfig(config).admin, options));
}

interface TailOptions {
  readonly json?: boolean;
  readonly bodies?: boolean;
}

const unreachable = (message: string, cause?: unknown) => new PusherError('DAEMON_UNREACHABLE', message, cause);

/** Prints until the stream ends. */
async function follow(admin: AdminOptions, { json = false, bodies = false }: TailOptions): Promise<never> {
  const stream = await open(admin, bodies);
  const text = json ? JSON.stringify : readable;
  for await (const { list, missed } of notifications(stream)) {
    process.stdout.write(list.map((line) => `${text(line)}\n`).join(''));
    if (missed > 0) process.stderr.write(`${missed} notifications passed too fast to be shown\n`);
  }
  throw unreachable('the daemon closed the connection');
}

async function open({ listen, token }: AdminOptions, bodies: boolean): Promise<AsyncIterable<Uint8Array>> {
  const url = `http://${reachable(listen.host)}:${listen.port}`;
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const { statusCode, body } = await request(`${url}/api/live?tail=${bodies ? 'bodies' : 'lines'}`, { headers }).catch(
    (error: unknown) => {
      throw unreachable(`no daemon answers at ${url} (admin.listen): ${messageOf(error)}`, error);
    },
  );
  if (statusCode === 401) throw unreachable(`the daemon at ${url} has another admin.token than this configuration`);
  if (statusCode !== 200) throw unreachable(`what answers at ${url} says ${statusCode}: is it the daemon?`);
  return body;
}

/** Where to reach an address that a server listens on: one for all addresses is no address to connect to. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}

/** The notifications in a stream of server-sent events, of which there are only those that our daemon writes. */
async function* notifications(stream: AsyncIterable<Uint8Array>): AsyncGenerator<TailLines> {
  const START = 'event: notifications\ndata: ';
  const decoder = new TextDecoder();
  let text = '';
  try {
    for await (const chunk of stream) {
      const events = (text + decoder.decode(chunk, { stream: true })).split('\n\n');
      text = events.pop() as string;
      for (const event of events) if (event.startsWith(START)) yield JSON.parse(event.slice(START.length));
    }
  } catch (error) {
    throw unreachable(`the daemon closed the connection: ${messageOf(error)}`, error);
  }
}

function readable({ at, eventAt, topic, about, eventId, message }: TailLine): string {
  const fields = [
    new Date(at).toISOString(),
    topic.split(':').at(-1),
    about,
    `${Math.max(at - eventAt, 0)} ms`,
    eventId,
    ...(message === undefined ? [] : [message]),
  ];
  // What people chose for names must not steer the terminal.
  return fields.map((field) => String(field).replace(/\p{Cc}/gu, '·')).join('\t');
}
