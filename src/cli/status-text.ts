/** How the daemon does, drawn for a terminal: the same figures that the console has. */
import { countOf } from '../count.ts';
import type { Sample } from '../ops/flow.ts';
import type { State } from '../ops/state.ts';

const BARS = '▁▂▃▄▅▆▇█';
const POINTS = 40;
/** A rate is the mean of so many samples: 10 s, so that it can be read. */
const STEADY = 5;

/** @param samples of the last hour, oldest first */
export function drawStatus(state: State, samples: readonly Sample[]): string {
  const { at, notReady, outbox, trend, topics, replay } = state;
  const recent = samples.slice(-STEADY);
  const mean = (of: (sample: Sample) => number) =>
    recent.reduce((sum, sample) => sum + of(sample), 0) / Math.max(recent.length, 1);
  const waiting = topics.reduce((sum, { depth }) => sum + depth, 0);
  const oldest = outbox.oldestAt === undefined ? '' : `the oldest for ${duration(at - outbox.oldestAt)}`;
  const timed = samples.findLast(({ p50 }) => p50 !== null);
  const lines = [
    `${headline(state)}   ${new Date(at).toISOString()}`,
    '',
    row('In', `${rate(mean((sample) => sample.in))}/s`, sparkline(samples.map((sample) => sample.in)), leftOut(state)),
    row('Out', `${rate(mean((sample) => sample.out))}/s`, sparkline(samples.map((sample) => sample.out))),
    row('Waiting', number(waiting), sparkline(samples.map(({ backlog }) => backlog)), trend.text, oldest),
    row(
      'Event to SNS',
      timed?.p50 == null ? '-' : duration(timed.p50),
      sparkline(samples.map(({ p50 }) => p50 ?? 0)),
      timed && at - timed.at > 10_000 ? `${duration(at - timed.at)} ago` : '',
    ),
    row('Dead letters', number(outbox.deadLetters)),
    ...(replay ? [row('Replay', number(replay.asked), replayNote(replay))] : []),
    row('Outbox', `${((outbox.bytes / outbox.maxBytes) * 100).toFixed(1)} %`, outbox.fault ?? ''),
  ];
  if (notReady.length > 0) lines.push('', 'Not ready');
  for (const { what, reason, advice } of notReady)
    lines.push(`  ${what}: ${reason}`, ...(advice ? [`    what to do: ${advice}`] : []));
  lines.push('', ...table(['TOPIC', 'STATE', 'WAITING', 'OUT/S', 'UNDER WAY', 'LAST SENT'], topicRows(state)));
  for (const { arn, state: name, reason, advice } of topics)
    if (name !== 'open' && name !== 'paused') lines.push(`  ${nameOf(arn)}: ${reason}`, `    what to do: ${advice}`);
  if (state.sources.length > 0)
    lines.push('', ...table(['SOURCE', 'LAST HEARD', 'POSITION', 'LOST'], sourceRows(state)));
  // What people and servers chose for names must not steer the terminal.
  return `${lines.map((line) => line.trimEnd().replace(/[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/gu, '·')).join('\n')}\n`;
}

const leftOut = ({ notPublished }: State): string =>
  notPublished.length === 0
    ? ''
    : `not published: ${notPublished.map(({ reason, rate: each }) => `${rate(each)}/s ${reason}`).join(', ')}`;

const replayNote = ({ taken, deadAgain, waiting }: NonNullable<State['replay']>): string =>
  `${number(taken)} taken, ${number(deadAgain)} dead again, ${number(waiting)} waiting`;

function headline({ notReady, topics }: State): string {
  if (notReady.length > 0) return `NOT READY: ${countOf(notReady.length, 'problem')}`;
  const slowed = topics.filter(({ state }) => state !== 'open').length;
  return slowed === 0 ? 'Ready' : `Ready, ${slowed} of ${countOf(topics.length, 'topic')} not open`;
}

const topicRows = ({ at, topics }: State): string[][] =>
  // What is wrong comes first.
  topics
    .toSorted((a, b) => Number(a.state === 'open') - Number(b.state === 'open'))
    .map(({ arn, state, since, depth, rate: out, inFlight, lastAt }) => [
      nameOf(arn),
      state === 'open' ? state : `${state} for ${duration(at - since)}`,
      number(depth),
      rate(out),
      number(inFlight),
      lastAt === undefined ? '-' : `${duration(at - lastAt)} ago`,
    ]);

const sourceRows = ({ at, sources }: State): string[][] =>
  sources.map(({ source, heardAt, last, missing }) => [
    source,
    `${duration(at - heardAt)} ago`,
    number(last),
    missing === 0 ? 'none' : number(missing),
  ]);

/** The last hour as a line of bars, each the most of its part. */
export function sparkline(values: readonly number[]): string {
  const per = Math.max(Math.ceil(values.length / POINTS), 1);
  const parts = Array.from({ length: Math.ceil(values.length / per) }, (_, n) =>
    Math.max(...values.slice(n * per, (n + 1) * per)),
  );
  const most = Math.max(...parts, 0);
  return parts.map((value) => BARS[most === 0 ? 0 : Math.round((value / most) * (BARS.length - 1))]).join('');
}

const row = (name: string, value: string, ...notes: string[]): string =>
  `${name.padEnd(13)}${value.padStart(10)}  ${notes.filter((note) => note !== '').join('  ')}`;

function table(head: readonly string[], rows: readonly string[][]): string[] {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((cells) => cells[column]?.length ?? 0)));
  return all.map((cells) => cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  '));
}

const nameOf = (arn: string): string => arn.split(':').at(-1) ?? arn;
const number = (value: number): string => Math.round(value).toLocaleString('en');
const rate = (value: number): string => (value >= 10 ? number(value) : `${Math.round(value * 10) / 10}`);

function duration(ms: number): string {
  const value = Math.max(ms, 0);
  if (value < 1_000) return `${Math.round(value)} ms`;
  if (value < 120_000) return `${Math.round(value / 1_000)} s`;
  if (value < 7_200_000) return `${Math.round(value / 60_000)} min`;
  return value < 172_800_000 ? `${Math.round(value / 3_600_000)} h` : `${Math.round(value / 86_400_000)} days`;
}
