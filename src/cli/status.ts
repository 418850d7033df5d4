/** `status`: the running daemon's state, once or repeatedly. */
import { Command } from 'commander';
import { json as asJson } from '../format.js';
import type { Sample } from '../ops/flow.ts';
import type { State } from '../ops/state.ts';
import { type ConfigFlags, readConfig } from './configuration.ts';
import { connectToDaemon } from './daemon.ts';
import { eventsIn } from './events.ts';
import { configurable } from './options.ts';
import { drawStatus } from './status-text.ts';

interface StatusOptions extends ConfigFlags {
  readonly watch?: boolean;
  readonly json?: boolean;
}

/** How many samples are kept: an hour. */
const SAMPLES = 1_800;
const CLEAR = '\u001b[H\u001b[2J';

export function statusCommand(): Command {
  return configurable(new Command('status'))
    .description(
      'Show the state of the running daemon: topics, sources, rates, problems. Exit code 1: it is not ready.',
    )
    .option('--watch', 'refresh every 2 seconds')
    .option('--json', 'print one line of JSON; with --watch one every 2 seconds')
    .action(showStatus);
}

async function showStatus({ watch = false, json = false, ...flags }: StatusOptions): Promise<void> {
  const daemon = await connectToDaemon(readConfig(flags, { uses: 'outbox' }));
  try {
    const samples: Sample[] = [];
    for await (const { name, data } of eventsIn(await daemon.stream('/api/live?tail=off'))) {
      const { state, ...news } = data as { state: State; samples?: Sample[]; sample?: Sample };
      if (name === 'hello') samples.splice(0, samples.length, ...(news.samples ?? []));
      if (news.sample) samples.push(news.sample);
      samples.splice(0, samples.length - SAMPLES);
      const text = json ? `${asJson(state)}\n` : drawStatus(state, samples);
      process.stdout.write(watch && !json && process.stdout.isTTY ? CLEAR + text : text);
      if (watch) continue;
      process.exitCode = state.notReady.length > 0 ? 1 : 0;
      return;
    }
  } finally {
    await daemon.close();
  }
}
