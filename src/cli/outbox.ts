/** `outbox migrate`: from the file to RabbitMQ, or back. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import type { PusherConfig } from '../config/load.ts';
import { PusherError } from '../errors.ts';
import { countOf } from '../format.js';
import { SILENT } from '../log.ts';
import { openRabbit, outboxFileOf } from '../open-outbox.ts';
import { type Moved, moveOutbox } from '../outbox/move.ts';
import type { Outbox } from '../outbox/outbox.ts';
import { sqliteOutbox } from '../outbox/sqlite/sqlite.ts';
import { type ConfigFlags, readConfig } from './configuration.ts';
import { configurable } from './options.ts';
import { printLine } from './print.ts';

interface Options extends ConfigFlags {
  readonly to: string;
}

/** How long RabbitMQ may take to answer, and how long a queue must be silent to count as empty, in milliseconds. */
const CONNECT_MS = 15_000;
const QUIET_MS = 3_000;
/** How often it asks how much is left, and how long it listens for daemons that still run, in milliseconds. */
const POLL_MS = 250;
const LISTEN_MS = 1_500;
const LOOK_MS = 50;

export function outboxCommand(): Command {
  return new Command('outbox').description('Move notifications from one kind of outbox to another.').addCommand(
    configurable(new Command('migrate'))
      .description(
        'Move waiting notifications and the positions of sources between the file and RabbitMQ. Stop every daemon first, and use the configuration with engine = "rabbitmq". Dead letters stay in its file.',
      )
      .requiredOption('--to <engine>', 'where to move them: rabbitmq or sqlite')
      .action(async ({ to, ...flags }: Options, command: Command) => {
        if (to !== 'rabbitmq' && to !== 'sqlite') command.error('error: --to should be rabbitmq or sqlite');
        const config = readConfig(flags);
        if (config.outbox.engine !== 'rabbitmq')
          throw new PusherError('CONFIG_INVALID', 'outbox.engine should be "rabbitmq" here: it says where RabbitMQ is');
        const { notifications, sources } = await migrate(config, to === 'rabbitmq');
        const moved = `${countOf(notifications, 'notification')} and the positions of ${countOf(sources, 'epoch')}`;
        printLine(`moved ${moved} to ${to}; start the daemons with engine = "${to}"`);
      }),
  );
}

async function migrate(config: PusherConfig, toRabbit: boolean): Promise<Moved> {
  const { max_bytes: maxBytes } = config.outbox;
  const file = sqliteOutbox({ file: outboxFileOf(config), maxBytes });
  // Closing it closes the file too.
  const rabbit = openRabbit(config, file, SILENT, { pollMs: POLL_MS });
  try {
    await connected(rabbit);
    const others = (rabbit.health().shared?.daemons.length ?? 1) - 1;
    if (others > 0)
      throw new PusherError(
        'OUTBOX_LOCKED',
        `${countOf(others, 'daemon')} with this prefix still running: stop all of them`,
      );
    return toRabbit ? await moveOutbox(file, rabbit, 0) : await moveOutbox(rabbit, file, QUIET_MS);
  } finally {
    await rabbit.close();
  }
}

/** Waits for the connection, and long enough to hear of other daemons. */
async function connected(rabbit: Outbox): Promise<void> {
  for (const until = performance.now() + CONNECT_MS; rabbit.fault; await sleep(LOOK_MS))
    if (performance.now() > until) throw rabbit.fault;
  await sleep(LISTEN_MS);
}
