/** Asks SNS what `check` wants to know of one `sns` section: does it answer, does it know us, may we publish. */
import path from 'node:path';
import type { SnsOptions } from '../../config/options.ts';
import { messageOf } from '../../errors.ts';
import { topicsOf } from '../account.ts';
import { isFifo } from '../wire.ts';
import { accessProblem, clockProblem, endpointProblem } from './access.ts';
import { type Circumstances, type Finding, failed, proxyFor } from './diagnosis.ts';
import { openProbe, type Probe } from './probe.ts';
import { isMissing, siblingOf, topicProblems } from './topic.ts';

interface Examination {
  /** Absolute path of the configuration; and as it was given, for commands to copy. */
  readonly configFile: string;
  readonly asGiven: string;
  /** Whether to send a real message to each topic. */
  readonly publish: boolean;
}

/** SNS, and each topic if SNS answers and knows us. */
export async function* examineAccount(
  options: SnsOptions,
  { configFile, asGiven, publish }: Examination,
): AsyncGenerator<Finding> {
  const circumstances = circumstancesOf(options, asGiven);
  const topics = Object.entries(topicsOf(options));
  const [first] = topics;
  if (!first) {
    yield failed('topics', 'none is configured', 'nothing is published', 'set one of the three topic options');
    return;
  }
  const what = 'SNS';
  const endpoint = endpointProblem(circumstances);
  if (endpoint) yield { what, ...endpoint };
  if (endpoint?.level === 'fail') return;
  let probe: Probe;
  try {
    probe = openProbe(options, path.dirname(configFile));
  } catch (error) {
    yield failed(what, messageOf(error), 'the daemon would not start', 'correct ca_file');
    return;
  }
  try {
    const answer = await probe.ask(attributesForm(first[1]));
    const problem = accessProblem(answer, circumstances);
    if (problem || answer.kind !== 'answer') {
      if (problem) yield { what, ...problem };
      return;
    }
    const clock = clockProblem(answer);
    yield clock ? { what, ...clock } : { what, level: 'ok', seen: `${options.sns_host.origin} answers` };
    for (const [kind, arn] of topics) yield* examineTopic(probe, arn, `${kind} topic`, circumstances, publish);
  } finally {
    await probe.close();
  }
}

const circumstancesOf = (options: SnsOptions, configFile: string): Circumstances => ({
  endpoint: options.sns_host,
  region: options.region,
  accountId: options.account_id,
  credentials: options.credentials,
  accessKeyId: options.access_key_id,
  secretLength: options.secret_access_key?.length,
  proxy: proxyFor(options.sns_host, process.env),
  configFile,
});

async function* examineTopic(
  probe: Probe,
  arn: string,
  what: string,
  circumstances: Circumstances,
  published: boolean,
): AsyncGenerator<Finding> {
  const attributes = await probe.ask(attributesForm(arn));
  const publish = await probe.ask(publishForm(arn, published));
  const obstacle = accessProblem(attributes, circumstances) ?? accessProblem(publish, circumstances);
  if (obstacle || attributes.kind !== 'answer' || publish.kind !== 'answer') {
    if (obstacle) yield { what, ...obstacle };
    return;
  }
  const missing = isMissing(attributes) || isMissing(publish);
  const sibling = missing ? await exists(probe, siblingOf(arn)) : undefined;
  const problems = topicProblems({ arn, attributes, publish, published, sibling }, circumstances);
  for (const problem of problems) yield { what, ...problem };
  if (problems.length > 0) return;
  yield { what, level: 'ok', seen: `${arn} ${published ? 'took a message' : 'exists and this key may publish to it'}` };
}

async function exists(probe: Probe, arn: string): Promise<boolean> {
  const answer = await probe.ask(attributesForm(arn));
  return answer.kind === 'answer' && answer.status === 200 && answer.fromSns;
}

const attributesForm = (arn: string) => ({ Action: 'GetTopicAttributes', TopicArn: arn });

/**
 * A real message, or an empty one: SNS refuses that for its emptiness, so nobody gets anything, and refuses a key that
 * may not publish for that.
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
