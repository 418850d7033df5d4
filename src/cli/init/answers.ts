/** The answers that `init` needs for a configuration, from flags or questions. */
import type { z } from 'zod';
import { unusableCharacter } from '../../config/characters.ts';
import { shapeOf } from '../../config/load.ts';
import { optionTexts } from '../../config/option.ts';
import { snsHostOf } from '../../config/regions.ts';
import { snsOptions } from '../../config/sns-options.ts';
import type { Dialog } from './dialog.ts';
import type { Options, Value } from './toml.ts';

export interface AnswerFlags {
  readonly region?: string;
  readonly account?: string;
  readonly snsHost?: string;
  readonly presenceTopic?: string;
  readonly pmTopic?: string;
  readonly mucTopic?: string;
  readonly accessKeyId?: string;
  readonly role?: boolean;
}

export interface Answers {
  readonly sns: Options;
  /** Values of its variables. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** An answer that omits a topic. */
const NONE = 'none';

const TOPICS = [
  ['presence_updates_topic', 'presenceTopic', '--presence-topic', 'Topic for presence', 'user_presence_updated'],
  ['pm_messages_topic', 'pmTopic', '--pm-topic', 'Topic for private messages', 'user_message_sent'],
  ['muc_messages_topic', 'mucTopic', '--muc-topic', 'Topic for group messages', 'user_messagegroup_sent'],
] as const;

/** Asks for answers that flags and environment don't provide. */
export async function askForSns(dialog: Dialog, flags: AnswerFlags, environment: NodeJS.ProcessEnv): Promise<Answers> {
  const region = await dialog.text({
    question: 'AWS region, such as eu-west-1',
    flag: '--region',
    given: flags.region,
    fallback: environment.AWS_REGION || environment.AWS_DEFAULT_REGION || undefined,
    problem: problemOf('region'),
  });
  const account = await dialog.text({
    question: 'AWS account that owns the topics, 12 digits',
    flag: '--account',
    given: flags.account,
    problem: problemOf('account_id'),
  });
  const topics: Record<string, Value> = {};
  for (const [option, flag, name, question, fallback] of TOPICS) {
    const topic = await dialog.text({
      question: `${question} (${NONE}: not published)`,
      flag: name,
      given: flags[flag],
      fallback,
      problem: (answer) => (answer === NONE ? undefined : problemOf(option)(answer)),
    });
    if (topic !== NONE) topics[option] = topic;
  }
  const keys = await askForKeys(dialog, flags, environment);
  const sns = {
    ...topics,
    sns_host: flags.snsHost ?? (region === '' ? '' : snsHostOf(region)),
    region,
    account_id: account,
    ...keys.options,
  };
  return { sns, secrets: keys.secrets };
}

async function askForKeys(
  dialog: Dialog,
  { role, accessKeyId }: AnswerFlags,
  environment: NodeJS.ProcessEnv,
): Promise<{ options: Options; secrets: Record<string, string> }> {
  const { AWS_ACCESS_KEY_ID: ownKey, AWS_SECRET_ACCESS_KEY: ownSecret, AWS_SESSION_TOKEN: session } = environment;
  // A session's temporary credentials expire within hours: unsuitable for a daemon.
  const hasKey = accessKeyId !== undefined || (Boolean(ownKey) && !session);
  const byRole =
    role ??
    (!hasKey &&
      (await dialog.confirm('Does this machine get its AWS credentials from a role or profile (no key)?', false)));
  if (byRole) return { options: { credentials: 'aws' }, secrets: {} };
  // For those who wonder why the exported one is not taken.
  const notThis = session ? ' (not the temporary one of AWS_SESSION_TOKEN)' : '';
  const key = await dialog.text({
    question: 'Access key id',
    flag: `--access-key-id or --role${notThis}`,
    given: accessKeyId,
    fallback: session ? undefined : ownKey || undefined,
    problem: problemOf('access_key_id'),
  });
  const secret = await dialog.text({
    question: 'Its secret (not shown)',
    flag: `AWS_SECRET_ACCESS_KEY in the environment${notThis}`,
    // Another key's secret doesn't match this one.
    given: ownSecret && !session && (!ownKey || key === ownKey) ? ownSecret : undefined,
    problem: problemOf('secret_access_key'),
    hidden: true,
  });
  return {
    options: {
      access_key_id: { variable: 'AWS_ACCESS_KEY_ID' },
      secret_access_key: { variable: 'AWS_SECRET_ACCESS_KEY' },
    },
    secrets: { AWS_ACCESS_KEY_ID: key, AWS_SECRET_ACCESS_KEY: secret },
  };
}

/** The configuration's error for an option's value. The value itself may be a secret, and is not shown. */
export const problemOf =
  (option: string) =>
  (answer: string): string | undefined => {
    const schema = shapeOf(snsOptions)[option] as z.ZodType;
    const result = schema.safeParse(answer);
    if (result.success) return undefined;
    const odd = answer !== '' && /key/.test(option) ? unusableCharacter(answer) : undefined;
    if (odd !== undefined) return odd;
    // Quotes are TOML's affair.
    return `should be ${optionTexts.get(schema)?.expects.replace(', in quotes', '')}`;
  };
