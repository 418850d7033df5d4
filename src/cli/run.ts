/** `run`: the daemon. */
import { Command } from 'commander';
import { loadConfig } from '../config/load.ts';
import { messageOf } from '../errors.ts';
import { createLogger, type Logger } from '../log.ts';
import { type Pusher, startPusher } from '../pusher.ts';
import { configOption } from './options.ts';

export function runCommand(): Command {
  return new Command('run')
    .description('Take events from XMPP servers and publish them, until SIGTERM or SIGINT.')
    .addOption(configOption())
    .action(async ({ config: file }: { config: string }) => {
      const config = loadConfig(file);
      const log = createLogger(config.log.level);
      const asked = nextSignal();
      // Ignored until there is something to reload; by default it would end the process.
      let reloads = Promise.resolve();
      process.on('SIGHUP', () => {
        reloads = reloads.then(() => pusher && reload(pusher, file, log));
      });
      let pusher: Pusher | undefined;
      pusher = await startPusher(config, log);
      log.info({ signal: await asked }, 'stopping: requests under way may end, the rest stays in the outbox');
      await pusher.stop();
      log.info('stopped');
      // Whatever a plugin left open must not keep the process.
      process.exit(0);
    });
}

async function reload(pusher: Pusher, file: string, log: Logger): Promise<void> {
  try {
    await pusher.reload(loadConfig(file));
  } catch (error) {
    log.error({ problem: messageOf(error) }, 'not reloaded: all stays as it was');
  }
}

/** The first signal to stop; at a second one the process ends at once, as it would by default. */
function nextSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
  });
}
