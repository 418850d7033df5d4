/**
 * Asks SNS what `check` needs to know about one `sns` section: whether it answers, accepts our credentials and allows
 * publishing. Uses the daemon's own client, so that both see the same errors.
 */
import path from 'node:path';
import type { SnsOptions } from '../../config/sns-options.ts';
import { messageOf } from '../../errors.ts';
import { MOST_RAW_ATTRIBUTES, mostAttributes } from '../../notification/additions.ts';
import { type Account, openAccount } from '../account.ts';
import type { CallOutcome } from '../client.ts';
import { type Explanation, explain } from '../explain.ts';
import { proxyText } from '../proxy.ts';
import { isFifo } from '../wire.ts';
import { diagnose, type Finding, failed, warn } from './diagnosis.ts';
import { clockProblem, endpointProblem } from './endpoint.ts';
import { diagnoseTopic, isMissing, siblingOf } from './topic.ts';

interface Examination {
  /** Absolute path of the configuration. */
  readonly configFile: string;
  /** Whether to send a real message to each topic. */
  readonly publish: boolean;
}

/** Checks SNS, and each topic if SNS answers and accepts our credentials. */
export async function* examineAccount(
  options: SnsOptions,
  { configFile, publish }: Examination,
): AsyncGenerator<Finding> {
  const what = 'SNS';
  let account: Account;
  try {
    account = openAccount(options, { folder: path.dirname(configFile), configFile });
  } catch (error) {
    yield failed(what, messageOf(error), 'the daemon would not start', 'correct that');
    return;
  }
  try {
    yield* examineTopics(account, publish);
  } finally {
    account.close();
  }
}

async function* examineTopics(account: Account, publish: boolean): AsyncGenerator<Finding> {
  const what = 'SNS';
  const topics = Object.entries(account.topics);
  const [first] = topics;
  if (!first) {
    yield failed('topics', 'none is configured', 'nothing is published', 'set one of the three topic options');
    return;
  }
  const attributes = mostAttributes(account.options);
  if (attributes > MOST_RAW_ATTRIBUTES)
    yield {
      what: 'attributes',
      ...warn(
        `a message has up to ${attributes}`,
        'with raw delivery to SQS, SNS discards a message with more than ten',
        'configure ten at most, or subscribe queues without raw delivery',
      ),
    };
  const endpoint = endpointProblem(account.circumstances());
  if (endpoint) yield { what, ...endpoint };
  if (endpoint?.level === 'fail') return;
  const outcome = await account.client.call(attributesForm(first[1]));
  const obstacle = obstacleOf(outcome, account);
  if (obstacle) {
    yield { what, ...diagnose(obstacle) };
    return;
  }
  const clock = clockProblem(skewOf(outcome));
  yield clock
    ? { what, ...clock }
    : { what, level: 'ok', seen: `${account.options.sns_host.origin} answers, ${wayOf(account)}` };
  for (const [kind, arn] of topics) yield* examineTopic(account, arn, `${kind} topic`, publish);
}

function wayOf(account: Account): string {
  const { proxy } = account.circumstances();
  return proxy ? `through the proxy ${proxyText(proxy)}` : 'without a proxy';
}

function skewOf(outcome: CallOutcome): number | undefined {
  if ('xml' in outcome) return outcome.skewMs;
  return outcome.failure.kind === 'request' ? outcome.failure.skewMs : undefined;
}

/** A failure that concerns all topics of the account; undefined when SNS answers and accepts our credentials. */
function obstacleOf(outcome: CallOutcome, account: Account): Explanation | undefined {
  if (!('failure' in outcome)) return undefined;
  const explanation = explain(outcome.failure, account.circumstances());
  return explanation.scope === 'account' ? explanation : undefined;
}

async function* examineTopic(account: Account, arn: string, what: string, published: boolean): AsyncGenerator<Finding> {
  const { client } = account;
  const attributes = await client.call(attributesForm(arn));
  const publish = await client.call(publishForm(arn, published));
  const obstacle = obstacleOf(attributes, account) ?? obstacleOf(publish, account);
  if (obstacle) {
    yield { what, ...diagnose(obstacle) };
    return;
  }
  const missing = isMissing(attributes) || isMissing(publish);
  const sibling = missing ? 'xml' in (await client.call(attributesForm(siblingOf(arn)))) : undefined;
  const problems = diagnoseTopic({ arn, attributes, publish, published, sibling }, account.circumstances());
  for (const problem of problems) yield { what, ...problem };
  if (problems.length > 0) return;
  yield { what, level: 'ok', seen: `${arn} ${published ? 'took a message' : 'exists and this key may publish to it'}` };
}

const attributesForm = (arn: string) => ({ Action: 'GetTopicAttributes', TopicArn: arn });

/**
 * Publishes a real message or an empty one. SNS refuses an empty message only after it has checked the key's
 * permission, so this tests the permission without delivering anything.
 */
function publishForm(arn: string, real: boolean): Record<string, string> {
  const now = new Date().toISOString();
  return {
    Action: 'Publish',
    TopicArn: arn,
    Message: real ? JSON.stringify({ xmpp_event_pusher_check: now }) : '',
    ...(isFifo(arn) && { MessageGroupId: 'xmpp-event-pusher-check', MessageDeduplicationId: now }),
  };
}
