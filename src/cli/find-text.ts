/** Events' outcomes as text for people. */
import { quotedCommand } from '../config/commands.ts';
import { countOf, printable, seconds } from '../format.js';
import { type Finding, type Found, MOST_FINDINGS } from '../trace/find.ts';

/**
 * @param now milliseconds since the Unix epoch
 * @param configFile for commands in the text
 */
export function describeFound(found: Found, now: number, configFile: string): string {
  const { findings, more, asked } = found;
  const lines: string[] = [];
  // Grouped by event, the one with the newest finding first; each event's findings are newest first.
  for (const [eventId, of] of Map.groupBy(findings, (finding) => finding.eventId)) {
    const { names = [], eventAt } = of[0] ?? {};
    lines.push(`${eventId}  ${names.join('  ')}${eventAt === undefined ? '' : `  happened ${time(eventAt)}`}`);
    lines.push(...of.flatMap((finding) => describe(finding, now, configFile).map((line) => `  ${line}`)));
  }
  if (findings.length === 0) lines.push(`found nothing about ${asked.text}`);
  if (more) {
    const rest = asked.limit < MOST_FINDINGS ? '--limit shows more, --until older ones' : '--until shows older ones';
    lines.push(`there may be more: these are the newest ${asked.limit}; ${rest}`);
  }
  lines.push(...coverage(found, now));
  // Names chosen by people must not control the terminal.
  return `${lines.map(printable).join('\n')}\n`;
}

function describe(finding: Finding, now: number, configFile: string): string[] {
  const at = time(finding.at);
  if (finding.what === 'delivered') {
    const { topic, messageId, requestId } = finding;
    const ids = [messageId && `MessageId ${messageId}`, requestId && `request ${requestId}`].filter(Boolean);
    return [`delivered ${at} to ${nameOf(topic)}${ids.length === 0 ? '' : `, ${ids.join(', ')}`}`];
  }
  if (finding.what === 'skipped') return [`skipped ${at}: ${finding.reason}`];
  if (finding.what === 'dead') {
    const { reason, deadLetter, replaying, topic } = finding;
    const where = topic === undefined ? '' : ` for ${nameOf(topic)}`;
    if (deadLetter === undefined) return [`dead letter ${at}${where}: ${reason}; replayed or deleted since`];
    const next = replaying
      ? 'waiting for its replay'
      : `see ${quotedCommand(['dead-letters', 'show', `${deadLetter}`], configFile)}`;
    return [`dead letter ${deadLetter} ${at}${where}: ${reason}; ${next}`];
  }
  const { topic, before, behind } = finding;
  const lines = [`waiting since ${at} (${seconds(now - finding.at)}) for ${nameOf(topic)}, ${before} before it`];
  if (!behind) return [...lines, '  no daemon runs'];
  const since = behind.state === 'open' ? '' : ` since ${time(behind.since)}`;
  lines.push(`  the topic is ${behind.state}${since}${behind.reason === '' ? '' : `: ${behind.reason}`}`);
  if (behind.advice !== '') lines.push(`  what to do: ${behind.advice}`);
  return lines;
}

/** What was searched, and what remains unknown. */
function coverage({ record, looked }: Found, now: number): string[] {
  const { on, since, problem, lost, unreadable, elsewhere } = record;
  const waiting = `the ${countOf(looked, 'notification')} that ${looked === 1 ? 'waits' : 'wait'}, `;
  const lines = [`searched ${elsewhere ? '' : waiting}the dead letters, and ${described(on, since, now)}`];
  if (elsewhere)
    lines.push("notifications that wait in RabbitMQ can't be searched; other daemons know what they delivered");
  if (problem !== undefined) lines.push(`the record can't be written or read: ${problem}`);
  if (lost > 0) lines.push(`${countOf(lost, 'record')} could not be written since the daemon started`);
  if (unreadable > 0)
    lines.push(`${countOf(unreadable, 'block')} of about a thousand records could not be read: damaged`);
  return lines;
}

function described(on: boolean, since: number | undefined, now: number): string {
  if (!on) return 'no record of what was delivered or skipped: trace.keep is off';
  if (since === undefined) return 'no record of what was delivered or skipped: nothing is recorded yet';
  return `the record of what was delivered and skipped since ${time(since)} (${seconds(now - since)})`;
}

const nameOf = (arn: string): string => arn.split(':').at(-1) ?? arn;
const time = (at: number): string => new Date(at).toISOString();
