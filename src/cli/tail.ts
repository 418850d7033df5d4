/** `tail`: notifications as SNS takes them, from the running daemon. */
import { Command } from 'commander';
import { loadConfig, type PusherConfig } from '../config/load.ts';
import { messageOf, PusherError } from '../errors.ts';
import type { TailLine, TailLines } from '../ops/live.ts';
import { connectToDaemon } from './daemon.ts';
import { configOption } from './options.ts';

export function tailCommand(): Command {
  return new Command('tail')
    .description('Print notifications as SNS takes them, one line each, the last few first.')
    .addOption(configOption())
    .option('--json', 'JSON lines, for machines')
    .option('--bodies', 'with what is published; that goes to the log of the daemon')
    .action(({ config, ...options }: { config: string } & TailOptions) => printUntilEnd(loadConfig(config), options));
}

interface TailOptions {
  readonly json?: boolean;
  readonly bodies?: boolean;
}

const gone = (message: string, cause?: unknown) => new PusherError('DAEMON_UNREACHABLE', message, cause);

/** Prints until the stream ends. */
async function printUntilEnd(config: PusherConfig, { json = false, bodies = false }: TailOptions): Promise<never> {
  const daemon = await connectToDaemon(config);
  const stream = await daemon.stream(`/api/live?tail=${bodies ? 'bodies' : 'lines'}`);
  const text = json ? JSON.stringify : readable;
  for await (const { list, missed } of notifications(stream)) {
    process.stdout.write(list.map((line) => `${text(line)}\n`).join(''));
    if (missed > 0) process.stderr.write(`${missed} notifications passed too fast to be shown\n`);
  }
  throw gone('the daemon closed the connection');
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
    throw gone(`the daemon closed the connection: ${messageOf(error)}`, error);
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
