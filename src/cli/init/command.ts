/** `init`: creates a configuration that passes `check`. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { commandTo } from '../../config/commands.ts';
import { CONFIG_VARIABLE, LOCAL_CONFIG, SYSTEM_CONFIG } from '../../config/find.ts';
import { parseConfig } from '../../config/load.ts';
import { listen } from '../../config/option.ts';
import { serverConfigOption, toOption } from '../adapter/command.ts';
import type { Where } from '../adapter/server.ts';
import { SERVERS } from '../adapter/servers.ts';
import { isExample } from '../configuration.ts';
import { EXIT } from '../exit-codes.ts';
import { Interrupted } from '../terminal.ts';
import { type AnswerFlags, askForSns, problemOf } from './answers.ts';
import { type Dialog, openDialog } from './dialog.ts';
import { followed, freshSecret, keepCopy, readExisting, withVariables, writeWhole } from './files.ts';
import { finish } from './finish.ts';
import { takeFromMongooseim } from './mongooseim.ts';
import { print } from './print.ts';
import { ADMIN_TOKEN, type Contents, configText, TAP_SECRET } from './toml.ts';

interface InitFlags extends AnswerFlags, Where {
  readonly config?: string;
  readonly yes?: boolean;
  readonly from?: string;
  readonly rabbitmq?: boolean;
  readonly server?: string;
  readonly overwrite?: boolean;
  readonly tapListen: string;
  readonly adminListen: string;
  /** `--no-topics`, `--no-adapter`. */
  readonly topics: boolean;
  readonly adapter: boolean;
}

export function initCommand(): Command {
  return new Command('init')
    .description(
      'Create a configuration with fresh secrets and the topics at SNS, install the adapter, and check everything. Safe to run again.',
    )
    .option('-y, --yes', 'ask nothing: use the flags, and defaults for the rest')
    .option(
      '-c, --config <file>',
      `where to write it (default: $${CONFIG_VARIABLE}, as root ${SYSTEM_CONFIG}, else ./pusher.toml)`,
    )
    .option('--region <region>', 'the AWS region (default: $AWS_REGION)')
    .option('--account <number>', 'the AWS account that owns the topics')
    .option('--presence-topic <name>', 'the topic for presence; none: not published (default: user_presence_updated)')
    .option('--pm-topic <name>', 'the topic for private messages (default: user_message_sent)')
    .option('--muc-topic <name>', 'the topic for group messages (default: user_messagegroup_sent)')
    .option(
      '--access-key-id <id>',
      'the access key (default: $AWS_ACCESS_KEY_ID); its secret comes from $AWS_SECRET_ACCESS_KEY',
    )
    .addOption(
      new Option('--role', "no key: use AWS's own provider chain (role of the machine, profile, container)").conflicts(
        'accessKeyId',
      ),
    )
    .option('--sns-host <host>', "the SNS endpoint, if not the region's", snsHost)
    .addOption(
      new Option('--from <mongooseim.toml>', "copy region, account, topics and key from MongooseIM's configuration"),
    )
    .option(
      '--rabbitmq',
      "read events from the RabbitMQ that --from names for MongooseIM's rabbit backend, instead of from an adapter",
    )
    .addOption(
      new Option('--server <name>', 'the XMPP server on this machine (default: the one that is found)').choices([
        ...SERVERS.map(({ name }) => name),
        'none',
      ]),
    )
    .addOption(toOption())
    .addOption(serverConfigOption())
    .option(
      '--tap-listen <address>',
      'where adapters reach the daemon; 0.0.0.0:5290 for other machines',
      address,
      '127.0.0.1:5290',
    )
    .option('--admin-listen <address>', 'where the console and the metrics are', address, '127.0.0.1:5291')
    .option('--overwrite', 'overwrite an existing configuration; the old one is kept beside it')
    .option('--no-topics', 'create no topics')
    .option('--no-adapter', 'install no adapter')
    .action(init);
}

/** Accepts what `listen` may be. */
function address(text: string): string {
  if (!listen.safeParse(text).success)
    throw new InvalidArgumentError('It should be an address and a port, such as 127.0.0.1:5290 or [::1]:5290.');
  return text;
}

function snsHost(text: string): string {
  const problem = problemOf('sns_host')(text);
  if (problem !== undefined) throw new InvalidArgumentError(`It ${problem}.`);
  return text;
}

async function init(flags: InitFlags, command: Command): Promise<void> {
  const file = targetOf(flags);
  if (!flags.yes && !process.stdin.isTTY)
    command.error('error: there is no terminal to ask questions on: pass --yes, and flags for what has no default');
  const sayStopped = () =>
    process.stdout.write(`\nStopped. The files written so far stay; continue with: ${commandTo(['init'], file)}\n`);
  // Someone who forgot sudo.
  const isUnnamed = flags.config === undefined && file === path.resolve(LOCAL_CONFIG);
  if (isUnnamed && process.getuid?.() !== 0 && existsSync(path.dirname(SYSTEM_CONFIG)))
    print(
      `note      this is for ${file}; for the service, whose configuration is ${SYSTEM_CONFIG}, run it as root, with sudo`,
    );
  using dialog = openDialog(flags.yes === true, command, () => {
    sayStopped();
    process.exit(EXIT.interrupted);
  });
  try {
    if (await isToWrite(file, flags, dialog, command)) await write(file, flags, dialog, command);
    await finish(file, flags, dialog);
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    sayStopped();
    process.exitCode = EXIT.interrupted;
  }
}

/** The configuration's path. */
function targetOf({ config }: InitFlags): string {
  const named = config ?? (process.env[CONFIG_VARIABLE] || undefined);
  return path.resolve(named ?? (process.getuid?.() === 0 ? SYSTEM_CONFIG : LOCAL_CONFIG));
}

/** Whether there is no configuration yet, or it may be replaced. */
async function isToWrite(file: string, flags: InitFlags, dialog: Dialog, command: Command): Promise<boolean> {
  const before = readExisting(file);
  if (before === undefined || isExample(file) || flags.overwrite) return true;
  const { AWS_REGION: region = '' } = process.env;
  const addresses = (['tapListen', 'adminListen'] as const).filter(
    (name) => command.getOptionValueSource(name) === 'cli',
  );
  const unused = given(flags, [...ANSWERS, ...addresses, 'from', 'rabbitmq']);
  if (region !== '' && !before.includes(`"${region}"`)) unused.push(`AWS_REGION=${region}`);
  if (
    !flags.yes &&
    (await dialog.confirm(`${file} exists already. Overwrite it? The old one is kept beside it.`, false))
  )
    return true;
  const note = unused.length === 0 ? '' : ` ${unused.join(', ')} ${unused.length === 1 ? 'has' : 'have'} no effect.`;
  print(`kept      ${file}: it exists already.${note} To overwrite it: ${commandTo(['init', '--overwrite'], file)}`);
  return false;
}

/** Flags for questions that `--from` answers too. */
const ANSWERS = [
  'region',
  'account',
  'presenceTopic',
  'pmTopic',
  'mucTopic',
  'accessKeyId',
  'role',
  'snsHost',
] as const;

/** The given flags among them, as written. */
const given = (flags: InitFlags, names: readonly (keyof InitFlags)[]): string[] =>
  names
    .filter((name) => flags[name] !== undefined)
    .map((name) => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`);

async function write(file: string, flags: InitFlags, dialog: Dialog, command: Command): Promise<void> {
  const { contents, secrets, notes, source } = await contentsFor(file, flags, dialog, command);
  if (dialog.missing.length > 0)
    command.error(`error: --yes asks nothing, so these are required: ${dialog.missing.join(', ')}`);
  const envFile = path.join(path.dirname(file), 'environment');
  const before = readExisting(envFile) ?? '';
  const fresh = { [TAP_SECRET]: freshSecret(), [ADMIN_TOKEN]: freshSecret() };
  const { text: environment, kept, replaced } = withVariables(before, secrets, fresh);
  const text = configText(contents);
  // The daemon must accept what was imported from elsewhere.
  parseConfig(text, source ?? file, { ...fresh, ...secrets });
  // Secrets first: once the configuration exists, everything does.
  if (environment !== before) {
    writeWhole(envFile, environment, { secret: true });
    print(
      `${before === '' ? 'wrote    ' : 'completed'} ${envFile}${[...said('kept', kept), ...said('replaced', replaced)].join('')}`,
    );
  }
  const copy = readExisting(file) !== undefined && !isExample(file) ? keepCopy(followed(file)) : undefined;
  writeWhole(file, text, { secret: false });
  print(`wrote     ${file}${copy === undefined ? '' : `; the old one is ${copy}`}`);
  for (const note of notes) print(`note      ${note}`);
}

const said = (what: string, names: readonly string[]): string[] =>
  names.length === 0 ? [] : [`; ${what}: ${names.join(', ')}`];

interface Found {
  readonly contents: Contents;
  readonly secrets: Readonly<Record<string, string>>;
  readonly notes: readonly string[];
  /** The file of the options, for messages about mistakes in them. */
  readonly source?: string;
}

async function contentsFor(file: string, flags: InitFlags, dialog: Dialog, command: Command): Promise<Found> {
  const { from, rabbitmq = false } = flags;
  const places = {
    listen: { tap: flags.tapListen, admin: flags.adminListen },
    // The unit's state directory.
    outbox: file === SYSTEM_CONFIG ? '/var/lib/xmpp-event-pusher/outbox.db' : undefined,
  };
  const answered = given(flags, ANSWERS);
  const isLooked =
    from !== undefined || rabbitmq || given(flags, ['region', 'account', 'accessKeyId', 'role']).length === 0;
  const taken = isLooked ? takeFromMongooseim(from, { rabbitmq }) : undefined;
  if (rabbitmq && !taken)
    command.error('error: --rabbitmq needs --from with the mongooseim.toml that says where RabbitMQ is');
  const sections = taken && [taken.sns, ...taken.hosts.map(({ sns }) => sns)].some(Boolean) ? taken : undefined;
  if (sections && from !== undefined && answered.length > 0)
    command.error(`error: ${answered.join(', ')} cannot be used with --from: ${from} sets them`);
  const notes = taken ? [`taken from ${taken.file}, which is not changed`, ...taken.notes] : [];
  if (sections && (from || (await dialog.confirm(`Use region, topics and key from ${sections.file}?`, true))))
    return { contents: { ...sections, ...places }, secrets: sections.secrets, notes, source: sections.file };
  const { sns, secrets } = await askForSns(dialog, flags, process.env);
  const rabbit = taken?.rabbit;
  const passwords = rabbit ? taken.secrets : {};
  return {
    contents: { sns, hosts: [], rabbit, ...places },
    secrets: { ...passwords, ...secrets },
    notes: rabbit ? notes : [],
  };
}
