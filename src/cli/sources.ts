/** `sources`: lists the sources and the holes in their numbers, acknowledges holes, and retires sources. */

import { Command } from 'commander';
import type { PusherConfig } from '../config/load.ts';
import { PusherError } from '../errors.ts';
import { countOf } from '../format.js';
import { type Hole, MOST_LISTED, type SourceState, type SourceStore } from '../outbox/sources.ts';
import { sourcesOn } from '../outbox/sqlite/sources.ts';
import { type ConfigFlags, readConfig } from './configuration.ts';
import type { DaemonClient } from './daemon.ts';
import { configurable } from './options.ts';
import { printJson, printLine } from './print.ts';
import { withOutbox } from './with-outbox.ts';

interface Options extends ConfigFlags {
  json?: boolean;
  all?: boolean;
}

export function sourcesCommand(): Command {
  return new Command('sources')
    .description('List the sources of events, acknowledge holes in their numbers, retire a source.')
    .addCommand(listCommand())
    .addCommand(acknowledgeCommand())
    .addCommand(retireCommand());
}

function listCommand(): Command {
  return configurable(new Command('list'))
    .description('Show every source with its epochs and its unacknowledged holes.')
    .option('--json', 'print JSON lines with all fields')
    .action(({ json = false, ...flags }: Options) =>
      withSources(readConfig(flags, { uses: 'outbox' }), { change: false }, async (sources) => {
        const [states, holes] = [await sources.list(MOST_LISTED), await sources.holes()];
        for (const state of states) json ? printJson(state) : printLine(lineOf(state));
        for (const hole of holes) json ? printJson({ hole }) : printLine(`  hole  ${describeHole(hole)}`);
        if (!json && states.length === 0) printLine('no source has sent anything yet');
      }),
    );
}

function acknowledgeCommand(): Command {
  return configurable(new Command('acknowledge'))
    .description('Mark holes as seen, so that they no longer raise an alert.')
    .argument('[source]', 'name of the source; --all for every source')
    .option('--all', 'acknowledge the holes of every source')
    .action((source: string | undefined, { all = false, ...flags }: Options, command: Command) => {
      if ((source === undefined) !== all) command.error('error: name a source, or say --all');
      return withSources(readConfig(flags, { uses: 'outbox' }), { change: true }, async (sources) => {
        const count = await sources.acknowledge(source);
        const isKnown = count > 0 || source === undefined || (await sources.list(MOST_LISTED)).some(isOf(source));
        if (!isKnown) throw noSuchSource(source);
        printLine(`${countOf(count, 'hole')} acknowledged`);
      });
    });
}

function retireCommand(): Command {
  return configurable(new Command('retire'))
    .description('Forget a source that will not come back, with its positions and its holes.')
    .argument('<source>', 'its name, as `sources list` shows it')
    .action((source: string, flags: Options) =>
      withSources(readConfig(flags, { uses: 'outbox' }), { change: true }, async (sources) => {
        if (!(await sources.retire(source))) throw noSuchSource(source);
        printLine(`${source} retired`);
      }),
    );
}

const isOf = (source: string) => (state: SourceState) => state.source === source;

const noSuchSource = (source: string) => new PusherError('NOT_FOUND', `there is no source ${source}`);

const withSources = (
  config: PusherConfig,
  options: { change: boolean },
  use: (sources: SourceStore) => Promise<void>,
): Promise<void> =>
  withOutbox(config, options, {
    running: (daemon) => use(sourcesOf(daemon)),
    file: (database) => use(sourcesOn(database)),
  });

/** The running daemon's sources. */
function sourcesOf(daemon: DaemonClient): SourceStore {
  const all = () => daemon.get<{ sources: SourceState[]; holes: Hole[] }>('/api/sources');
  return {
    list: async () => (await all()).sources,
    holes: async () => (await all()).holes,
    acknowledge: async (source) => {
      const answer = await daemon.post<{ count: number }>(
        '/api/sources/acknowledge',
        source === undefined ? { all: true } : { source },
      );
      return answer?.count ?? 0;
    },
    retire: async (source) => (await daemon.post('/api/sources/retire', { source })) !== undefined,
  };
}

function lineOf({ source, epoch, last, holes, missing, heardAt }: SourceState): string {
  const lost = holes === 0 ? 'no holes' : `${countOf(holes, 'hole')}, ${countOf(missing, 'event')} lost`;
  return `${source}  epoch ${epoch}  last ${last}  heard ${new Date(heardAt).toISOString()}  ${lost}`;
}

function describeHole({ source, epoch, first, last, missing, at }: Hole): string {
  const where =
    first === undefined
      ? `${countOf(missing, 'event')}, noticed by an earlier release`
      : `${first} to ${last} of ${epoch}`;
  return `${source}  ${where}  at ${new Date(at).toISOString()}`;
}
