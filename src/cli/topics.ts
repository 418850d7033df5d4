/** `topics`: creates the configured topics at SNS. */
import path from 'node:path';
import { Command } from 'commander';
import { quotedCommand } from '../config/commands.ts';
import { type PusherConfig, sectionsOf } from '../config/load.ts';
import { PusherError } from '../errors.ts';
import { type Account, openAccount, topicsOf } from '../sns/account.ts';
import { explain } from '../sns/explain.ts';
import type { Failure } from '../sns/failure.ts';
import { isFifo, readTopicArn } from '../sns/wire.ts';
import { type ConfigFlags, readConfig } from './configuration.ts';
import { EXIT } from './exit-codes.ts';
import { configurable } from './options.ts';
import { printLine } from './print.ts';
import { Interrupted, openTerminal } from './terminal.ts';

type Creation = 'exists' | 'made' | 'left out' | { readonly failed: string };

interface CreateOptions extends ConfigFlags {
  yes?: boolean;
}

export function topicsCommand(): Command {
  return new Command('topics')
    .description('Create the configured topics at SNS.')
    .addCommand(
      configurable(new Command('create'))
        .description('Create the configured topics that are missing; existing ones are not changed.')
        .option('-y, --yes', 'do not ask before each topic')
        .action(create),
    );
}

async function create({ yes, ...flags }: CreateOptions, command: Command): Promise<void> {
  const config = readConfig(flags, { uses: 'aws' });
  const topics = [...sectionsOf(config).values()].flatMap((options) =>
    options ? Object.values(topicsOf(options)) : [],
  );
  if (topics.length === 0) throw new PusherError('CONFIG_INVALID', `${config.file}: no topic is configured`);
  if (!yes && !process.stdin.isTTY)
    command.error('error: there is no terminal to ask on before each topic; pass --yes to create them all');
  if (yes) {
    if (!(await createTopics(config, async () => true))) process.exitCode = EXIT.failed;
    return;
  }
  using terminal = openTerminal(process.stderr, () => process.exit(EXIT.interrupted));
  const confirm = (arn: string) => terminal.confirm(`make ${arn}?`, false);
  try {
    if (!(await createTopics(config, confirm))) process.exitCode = EXIT.failed;
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    process.stderr.write('\nStopped. Topics made so far stay.\n');
    process.exitCode = EXIT.interrupted;
  }
}

/**
 * Creates the missing configured topics, and prints the result for each.
 * @param confirm asks whether to create one
 * @returns whether all went well
 */
export async function createTopics(config: PusherConfig, confirm: (arn: string) => Promise<boolean>): Promise<boolean> {
  let ok = true;
  const seen = new Set<string>();
  for (const options of sectionsOf(config).values()) {
    if (!options) continue;
    const account = openAccount(options, { folder: path.dirname(config.file), configFile: config.file });
    try {
      for (const arn of Object.values(account.topics)) {
        if (seen.has(arn)) continue;
        seen.add(arn);
        const outcome = await createOne(account, arn, confirm);
        ok &&= typeof outcome === 'string';
        report(arn, outcome);
      }
    } finally {
      account.client.destroy();
    }
  }
  return ok;
}

function report(arn: string, outcome: Creation): void {
  const line = typeof outcome === 'string' ? `${outcome.padEnd(8)}  ${arn}` : `FAIL      ${arn}: ${outcome.failed}`;
  printLine(line);
}

async function createOne(account: Account, arn: string, confirm: (arn: string) => Promise<boolean>): Promise<Creation> {
  const { client, options } = account;
  // Checks before creating: SNS refuses to create a topic that exists with other attributes.
  const known = await client.call({ Action: 'GetTopicAttributes', TopicArn: arn });
  if (!('failure' in known)) return 'exists';
  // A key that may not look may still create; creating an existing topic with equal attributes changes nothing.
  if (!/^(NotFound|AuthorizationError|AccessDenied)/.test(known.failure.code))
    return { failed: sentence(known.failure, account, arn) };
  if (!(await confirm(arn))) return 'left out';
  const made = await client.call(createTopicForm(arn));
  if ('failure' in made) return { failed: sentence(made.failure, account, arn) };
  const got = readTopicArn(made.xml);
  if (got === arn) return 'made';
  return {
    failed: `created ${got} instead: SNS creates topics in the account of the key and the region of the endpoint; correct account_id (${options.account_id}), region or the key, and delete the topic just created`,
  };
}

/**
 * FIFO topics with the throughput of their message groups: groups here are users and rooms, of which there are many.
 */
function createTopicForm(arn: string): Record<string, string> {
  const attributes = isFifo(arn) ? { FifoTopic: 'true', FifoThroughputScope: 'MessageGroup' } : {};
  const form: Record<string, string> = { Action: 'CreateTopic', Name: arn.split(':').at(-1) ?? '' };
  Object.entries(attributes).forEach(([key, value], index) => {
    form[`Attributes.entry.${index + 1}.key`] = key;
    form[`Attributes.entry.${index + 1}.value`] = value;
  });
  return form;
}

function sentence(failure: Failure, account: Account, arn: string): string {
  const { reason, seen, means, advice } = explain(failure, account.circumstances(arn));
  if (failure.code.startsWith('AuthorizationError'))
    return `${reason}: ${seen}; the key needs sns:CreateTopic for this: ${quotedCommand(['iam-policy', '--with-create'], account.circumstances().configFile)} prints the policy`;
  return `${reason}: ${seen}; ${means}; ${advice}`;
}
