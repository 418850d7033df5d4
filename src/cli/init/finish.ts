/** `init`'s steps after the configuration: topics, adapter, and `check`. Each step can be repeated. */
import { commandTo } from '../../config/commands.ts';
import { SYSTEM_CONFIG } from '../../config/find.ts';
import { type PusherConfig, sectionsOf } from '../../config/load.ts';
import { PusherError } from '../../errors.ts';
import { topicsOf } from '../../sns/account.ts';
import { adapterInstall } from '../adapter/install.ts';
import type { AdapterServer, Where } from '../adapter/server.ts';
import { SERVERS } from '../adapter/servers.ts';
import { whereWords } from '../adapter/tap.ts';
import { check } from '../check.ts';
import { readConfig } from '../configuration.ts';
import { EXIT } from '../exit-codes.ts';
import { findDaemon } from '../find-daemon.ts';
import { leastPolicy } from '../iam-policy.ts';
import { createTopics } from '../topics.ts';
import type { Dialog } from './dialog.ts';
import { print } from './print.ts';

export interface FinishFlags extends Where {
  readonly server?: string;
  readonly topics: boolean;
  readonly adapter: boolean;
}

/** Sets the exit code to 1 if a problem remains. */
export async function finish(file: string, flags: FinishFlags, dialog: Dialog): Promise<void> {
  const config = readConfig({ config: file });
  printPolicy(config);
  if (flags.topics && (await dialog.confirm('Create the missing topics?', true)))
    await attempt('topics', () => createTopics(config, async () => true));
  const servers = flags.adapter ? await serversFor(config, flags, dialog) : [];
  for (const server of servers) await attempt('adapter', async () => installAdapter(server, file, flags));
  print('');
  await attempt('check', () => check({ config: file }));
  print(`\n${next(file, servers, flags, await isRunning(config))}`);
}

function printPolicy(config: PusherConfig): void {
  const sections = [...sectionsOf(config).values()];
  const topics = new Set(sections.flatMap((options) => (options ? Object.values(topicsOf(options)) : [])));
  if (topics.size === 0) return;
  print('\nThe key or role needs this policy in IAM; sns:CreateTopic only to create the topics:\n');
  print(JSON.stringify(leastPolicy({ topics: [...topics], attributes: true, create: true }), null, 2));
  print('');
}

/** The servers to install the adapter into: the named one, or each one that is found and wanted. */
async function serversFor(
  { tap }: PusherConfig,
  { server: named }: FinishFlags,
  dialog: Dialog,
): Promise<AdapterServer[]> {
  if (named !== undefined) return SERVERS.filter(({ name }) => name === named);
  const wanted: AdapterServer[] = [];
  // With both, each event would arrive twice.
  const served = SERVERS.filter(({ name }) => !(name === 'mongooseim' && tap.rabbitmq));
  const found = served.filter((server) => server.present());
  if (found.length === 0) print('note      found no XMPP server on this machine: install the adapter where it runs');
  for (const server of found)
    if (await dialog.confirm(`Install the adapter in ${server.name}?`, true)) wanted.push(server);
  return wanted;
}

function installAdapter(server: AdapterServer, file: string, where: Where): boolean {
  print(`\nThe adapter for ${server.name}:\n`);
  const { lines, ok } = adapterInstall(server, { config: file, configure: true }, where);
  for (const line of lines) print(line);
  return ok;
}

/** Runs a step; prints its failure and continues with the next. */
async function attempt(what: string, step: () => Promise<boolean>): Promise<void> {
  try {
    if (!(await step())) process.exitCode = EXIT.failed;
  } catch (error) {
    if (!(error instanceof PusherError)) throw error;
    print(`FAIL      ${what}: ${error.message}`);
    process.exitCode = EXIT.failed;
  }
}

/** Whether a daemon runs, with a configuration that it read earlier. */
async function isRunning(config: PusherConfig): Promise<boolean> {
  const found = await findDaemon(config);
  if (found.kind === 'running') await found.daemon.close();
  return found.kind !== 'none';
}

function next(file: string, servers: readonly AdapterServer[], where: Where, running: boolean): string {
  const service = running ? '  systemctl restart xmpp-event-pusher' : '  systemctl enable --now xmpp-event-pusher';
  const start = file === SYSTEM_CONFIG ? service : `  ${commandTo(['run'], file)}`;
  const looks = servers.map(({ name }) => `  ${commandTo(['adapter', 'status', name, ...whereWords(where)], file)}`);
  const mend =
    process.exitCode === EXIT.failed
      ? `Fix what failed, and run this again: ${commandTo(['init'], file)}\nTo give other answers: ${commandTo(['init', '--overwrite'], file)}\n\n`
      : '';
  const todo = running
    ? 'The daemon runs with the configuration that it started with. Restart it, and check it:'
    : 'Start the daemon, and check it:';
  return [`${mend}${todo}`, '', start, `  ${commandTo(['status'], file)}`, ...looks].join('\n');
}
