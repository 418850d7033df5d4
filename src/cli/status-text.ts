/** The daemon's state for a terminal: the same figures as in the console. */
import { ago, bytes, count, countOf, duration, percent, printable, rate, seconds } from '../format.js';
import type { Sample } from '../ops/flow.ts';
import type { State } from '../ops/state.ts';

const BARS = '▁▂▃▄▅▆▇█';
const POINTS = 40;
/** Rates are the mean of this many samples: 10 s, for steady figures. */
const STEADY = 5;
/** Greatest age of a latency that still counts as current, in milliseconds. */
const STALE_MS = 10_000;

/** @param samples of the last hour, oldest first */
export function drawStatus(state: State, samples: readonly Sample[]): string {
  const { at, notReady, outbox, trend, topics, replay } = state;
  const recent = samples.slice(-STEADY);
  const mean = (of: (sample: Sample) => number) =>
    recent.reduce((sum, sample) => sum + of(sample), 0) / Math.max(recent.length, 1);
  const waiting = topics.reduce((sum, { depth }) => sum + depth, 0);
  const oldest = outbox.oldestAt === undefined ? '' : `the oldest for ${seconds(at - outbox.oldestAt)}`;
  const timed = samples.findLast(({ p50 }) => p50 !== null);
  const latency = timed && at - timed.at <= STALE_MS ? (timed.p50 ?? undefined) : undefined;
  const lines = [
    `${headline(state)}   ${new Date(at).toISOString()}`,
    '',
    row('In', `${rate(mean((sample) => sample.in))}/s`, sparkline(samples.map((sample) => sample.in)), leftOut(state)),
    row('Out', `${rate(mean((sample) => sample.out))}/s`, sparkline(samples.map((sample) => sample.out))),
    row('Waiting', count(waiting), sparkline(samples.map(({ backlog }) => backlog)), trend.text, oldest),
    row(
      'Event to SNS',
      latency === undefined ? '—' : duration(latency),
      sparkline(samples.map(({ p50 }) => p50 ?? 0)),
      latency === undefined && timed ? `none taken for ${seconds(at - timed.at)}` : '',
    ),
    row('Dead letters', count(outbox.deadLetters)),
    ...(replay ? [row('Replay', count(replay.asked), replayNote(replay))] : []),
    row(
      'Outbox',
      percent(outbox.bytes / outbox.maxBytes),
      `${bytes(outbox.bytes)} of ${bytes(outbox.maxBytes)}`,
      outbox.fault ?? '',
    ),
  ];
  if (notReady.length > 0) lines.push('', 'Not ready');
  for (const { what, reason, advice } of notReady) lines.push(`  ${what}: ${reason}`, ...adviceLines(advice));
  if (state.trace?.problem !== undefined)
    lines.push('', `The record of what became of events can't be written: ${state.trace.problem}`);
  lines.push('', ...table(['TOPIC', 'STATE', 'WAITING', 'OUT/S', 'UNDER WAY', 'LAST SENT'], topicRows(state)));
  for (const { arn, state: name, reason, advice } of topics)
    if (name !== 'open' && name !== 'paused') lines.push(`  ${nameOf(arn)}: ${reason}`, ...adviceLines(advice));
  lines.push('', ...table(['COMES IN BY', 'WAITING', 'AT'], state.taps.map(tapRow)));
  if (state.shared) lines.push(...sharedLines(state.shared));
  if (state.sources.length > 0)
    lines.push(
      '',
      ...table(['SOURCE', 'LAST CONTACT', 'LAST KEPT', 'EVENTS/S', 'POSITION', 'LOST'], sourceRows(state)),
    );
  for (const { source, notes } of state.sources) for (const { text } of notes) lines.push(`  ${source}: ${text}`);
  // Names chosen by people and servers must not control the terminal.
  return `${lines
    .flatMap((line) => line.split('\n'))
    .map((line) => printable(line.trimEnd()))
    .join('\n')}\n`;
}

/** An advice may have several ways, one a line. */
const adviceLines = (advice = ''): string[] =>
  advice === '' ? [] : advice.split('\n').map((way, n) => (n === 0 ? `    what to do: ${way}` : `      ${way}`));

const leftOut = ({ notPublished }: State): string =>
  notPublished.length === 0
    ? ''
    : `not published: ${notPublished.map(({ reason, rate: each }) => `${rate(each)}/s ${reason}`).join(', ')}`;

const replayNote = ({ taken, deadAgain, waiting }: NonNullable<State['replay']>): string =>
  `${count(taken)} taken, ${count(deadAgain)} dead again, ${count(waiting)} waiting`;

function headline({ notReady, topics }: State): string {
  if (notReady.length > 0) return `NOT READY: ${countOf(notReady.length, 'problem')}`;
  const slowed = topics.filter(({ state }) => state !== 'open').length;
  return slowed === 0 ? 'Ready' : `Ready, ${slowed} of ${countOf(topics.length, 'topic')} not open`;
}

const topicRows = ({ at, topics }: State): string[][] =>
  // Problems come first.
  topics
    .toSorted((a, b) => Number(a.state === 'open') - Number(b.state === 'open'))
    .map(({ arn, state, since, depth, rate: out, inFlight, lastAt }) => [
      nameOf(arn),
      state === 'open' ? state : `${state} for ${seconds(at - since)}`,
      count(depth),
      rate(out),
      count(inFlight),
      lastAt === undefined ? '—' : ago(lastAt, at),
    ]);

const tapRow = ({ name, at, problem, waiting, note }: State['taps'][number]): string[] => [
  name,
  waiting === undefined ? '—' : count(waiting),
  `${at ?? '—'}  ${problem ? `NOT READY: ${problem.reason}` : (note ?? '')}`,
];
/** The daemons that share the outbox, and their partitions. */
function sharedLines({ daemons, partitions }: NonNullable<State['shared']>): string[] {
  const rows = daemons.map(({ id, self, url, deadLetters }) => {
    const own = partitions.filter(({ daemon }) => daemon === id);
    const depth = own.reduce((sum, partition) => sum + partition.depth, 0);
    return [self ? `${id} (this one)` : id, count(own.length), count(depth), count(deadLetters), url ?? '—'];
  });
  const unserved = partitions.filter(({ daemon, problem }) => daemon === undefined || problem !== undefined);
  return [
    '',
    ...table(['DAEMON', 'PARTITIONS', 'WAITING', 'DEAD LETTERS', 'CONSOLE'], rows),
    ...unserved.map(
      ({ topic, queue, depth, problem }) =>
        `  ${queue} of ${nameOf(topic)}: ${problem ?? 'no daemon works on it'}, ${count(depth)} waiting`,
    ),
  ];
}

const sourceRows = ({ at, sources }: State): string[][] =>
  sources.map(({ source, heardAt, contactAt, rate: events, last, missing }) => [
    source,
    ago(Math.max(contactAt ?? 0, heardAt), at),
    ago(heardAt, at),
    rate(events),
    last === undefined ? '—' : count(last),
    missing === 0 ? 'none' : count(missing),
  ]);

/** The last hour as a line of bars, each the maximum of its part. */
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
