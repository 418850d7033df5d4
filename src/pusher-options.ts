/** Validates the options of {@link createPusher}, because plain JavaScript has no compiler to do so. */
import { z } from 'zod';
import { PusherError } from './errors.ts';
import { problemOf } from './event.ts';
import type { AdditionSettings } from './sns/settings.ts';

/** An object with these functions, its own or its class's. */
const withFunctions = (what: string, ...names: readonly string[]) =>
  z.custom<object>(
    (value) =>
      typeof value === 'object' &&
      value !== null &&
      names.every((name) => typeof (value as Record<string, unknown>)[name] === 'function'),
    `should be ${what}, with the functions ${names.join(', ')}`,
  );

/** Unknown options are errors: with a misspelt `plugin`, the pusher would publish what the filter should withhold. */
const known = <Shape extends z.ZodRawShape>(shape: Shape) =>
  z.strictObject(shape, {
    error: ({ code, keys }) =>
      code === 'unrecognized_keys'
        ? `there is no option ${(keys as string[]).join(', ')}; there are ${Object.keys(shape).join(', ')}`
        : 'should be an object',
  });

const func = z.custom<() => unknown>((value) => typeof value === 'function', 'should be a function');
const record = z.custom<object>((value) => typeof value === 'object' && value !== null, 'should be an object');
const whole = (least: number) =>
  z.int(`should be a whole number, ${least} or more`).min(least, `should be a whole number, ${least} or more`);
const topic = z.string('should be the name of a topic').min(1, 'should be the name of a topic');
/** Checked where plugins are loaded. */
const plugin = z.unknown().optional();

/** Their content is checked where it is compiled. */
const ADDITIONS: readonly (keyof AdditionSettings)[] = [
  'attributes',
  'messageAttributes',
  'presenceAttributes',
  'cloudEvents',
  'bodyFields',
  'subject',
  'messageGroupId',
  'messageDeduplicationId',
];

const sink = known({
  sink: withFunctions('a sink', 'limits', 'publish'),
  topics: known({ presence: topic.optional(), pm: topic.optional(), muc: topic.optional() }),
  presence: z.enum(['user', 'session'], 'should be "user" or "session"').optional(),
  plugin,
  pluginOptions: record.optional(),
  poolSize: whole(1).optional(),
  retryCount: whole(0).optional(),
  retryBaseMs: z.number('should be milliseconds').min(0, 'should be milliseconds').optional(),
  exhausted: z.enum(['wait', 'dead-letter'], 'should be "wait" or "dead-letter"').optional(),
  maxMessagesPerSecond: z.number('should be above 0').positive('should be above 0').optional(),
  ...Object.fromEntries(ADDITIONS.map((name) => [name, z.unknown().optional()])),
});

const section = z.unknown().superRefine((value, context) => {
  if (value === null) return;
  const isSink = typeof value === 'object' && 'sink' in value;
  // SNS's options are checked with their own messages.
  const result = (isSink ? sink : record).safeParse(value);
  for (const { path, message } of result.error?.issues ?? []) context.addIssue({ code: 'custom', path, message });
});

const routing = {
  sns: record.optional(),
  sink: sink.optional(),
  hosts: z.record(z.string(), section, 'should be an object').optional(),
  plugin,
  resolveFrom: z.string('should be the path of a file').optional(),
};

const routingRules = known(routing);
const rules = known({
  ...routing,
  outbox: withFunctions('an outbox', 'source', 'commit', 'backlog', 'topics', 'onTopic', 'health', 'close'),
  taps: z.array(withFunctions('a tap', 'start', 'stop', 'state'), 'should be a list of taps').optional(),
  log: withFunctions('a log', 'info', 'warn', 'error').optional(),
  metrics: withFunctions('a registry of prom-client', 'registerMetric', 'removeSingleMetric').optional(),
  report: record.optional(),
  notReady: func.optional(),
  dryRun: func.optional(),
});

/** @throws PusherError CONFIG_INVALID that names every invalid option */
export const checkOptions = (options: unknown): void => refuse(rules.safeParse(options).error);

/** Like {@link checkOptions}, for the options that a reload can replace. */
export const checkRouting = (given: unknown): void => refuse(routingRules.safeParse(given).error);

function refuse(error: z.ZodError | undefined): void {
  if (error) throw new PusherError('CONFIG_INVALID', problemOf(error));
}
