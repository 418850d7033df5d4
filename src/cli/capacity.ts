/** `capacity`: the size and cost of an installation for a number of users. */

import { Command, InvalidArgumentError, Option } from 'commander';
import { bytes, count, countOf, duration, rate } from '../format.js';
import { CONSTANTS, QUOTA_SOURCE } from './capacity-constants.ts';
import { type Capacity, capacityOf, type Demand } from './capacity-model.ts';

interface CapacityOptions extends Demand {
  readonly json?: boolean;
}

export function capacityCommand(): Command {
  const number = (flags: string, text: string, fallback?: number) => {
    const option = new Option(flags, text).argParser(positive);
    return fallback === undefined ? option : option.default(fallback);
  };
  return new Command('capacity')
    .description(
      'Estimate the size and the cost of an installation from formulas and measured figures (docs/scaling.md). Works offline.',
    )
    .addOption(number('--users <number>', 'users, such as 5e6').makeOptionMandatory())
    .addOption(number('--online <share>', 'share of them online at the busiest time', 0.2).argParser(share))
    .addOption(number('--messages <number>', 'private messages that a user sends per day, on average', 20))
    .addOption(number('--group-messages <number>', 'group messages that a user sends per day, on average', 10))
    .addOption(number('--logins <number>', 'how often a user comes online per day, on average', 4))
    .addOption(number('--peak <factor>', "the peak rate, as a multiple of the day's mean", 3).argParser(aboveZero))
    .addOption(number('--body <bytes>', "a message's text", 200))
    .addOption(number('--outage <hours>', 'how long an outage of SNS to survive', 24))
    .addOption(
      number('--reconnect <minutes>', 'how soon all users are back after the XMPP servers restart', 5).argParser(
        aboveZero,
      ),
    )
    .option('--region <region>', 'the AWS region, for its default quota, such as eu-west-1', regionName, 'us-east-1')
    .addOption(number('--quota <rate>', 'messages/s that AWS granted the account in that region').argParser(aboveZero))
    .addOption(number('--price <dollars>', 'price of a million requests to SNS', CONSTANTS.requestPrice.value))
    .addOption(
      new Option('--engine <engine>', "the outbox's engine (default: sqlite while one daemon is enough)").choices([
        'sqlite',
        'rabbitmq',
      ]),
    )
    .option('--json', 'one JSON object, with the constants and their sources')
    .action(({ json = false, ...demand }: CapacityOptions) => {
      const capacity = capacityOf(demand);
      const whole = { demand, capacity, constants: CONSTANTS, quotaSource: QUOTA_SOURCE };
      process.stdout.write(json ? `${JSON.stringify(whole)}\n` : drawCapacity(demand, capacity));
    });
}

function positive(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value < 0)
    throw new InvalidArgumentError('It should be a number, 0 or more, such as 40 or 5e6.');
  if (value > 1e15) throw new InvalidArgumentError('It is too large.');
  return value;
}

function aboveZero(text: string): number {
  const value = positive(text);
  if (value === 0) throw new InvalidArgumentError('It should be above 0.');
  return value;
}

/** A name of AWS's form; a misspelt one would silently have the quota of small regions. */
function regionName(text: string): string {
  if (!/^[a-z]+(?:-[a-z]+)+-\d+$/.test(text))
    throw new InvalidArgumentError('It should be a region such as eu-west-1.');
  return text;
}

function share(text: string): number {
  const value = positive(text);
  if (value > 1) throw new InvalidArgumentError('It should be a share from 0 to 1, such as 0.2.');
  return value;
}

/** The result for a terminal. */
export function drawCapacity(demand: Demand, capacity: Capacity): string {
  const { byKind, cost, accounts, quota, drainHours, reconnectMinutes } = capacity;
  const rows: [string, string, string][] = [
    ['Notifications', `${rate(capacity.mean)}/s`, `${rate(capacity.peak)}/s at the peak`],
    ['', '', `presence ${rate(byKind.presence)}/s, private ${rate(byKind.pm)}/s, group ${rate(byKind.muc)}/s`],
    ['Quota', `${rate(quota)}/s`, `an account in ${demand.region}${demand.quota === undefined ? ' by default' : ''}`],
    [
      'Accounts',
      count(accounts),
      accounts === 1 ? 'one is enough' : `or regions; or a quota of ${rate(capacity.peak * 1.25)}/s`,
    ],
    ['Outbox', capacity.engine, capacity.engine === 'sqlite' ? 'a disk beside each daemon' : 'quorum queues'],
    ['Daemons', count(capacity.daemons), `${capacity.cores.toFixed(1)} cores at the peak`],
    ['Brokers', count(capacity.brokers), capacity.clusters > 1 ? `${count(capacity.clusters)} clusters of three` : ''],
    ['Partitions', count(capacity.partitions), capacity.partitions > 0 ? 'of each topic' : ''],
    [
      'Disk',
      bytes(capacity.diskBytes),
      `${countOf(Math.round(capacity.waiting), 'notification waits', 'notifications wait')} after ${demand.outage} h`,
    ],
    [
      '',
      '',
      drainHours === undefined ? 'they are never all sent: raise the quota' : `all sent after ${hours(drainHours)}`,
    ],
    [
      'All reconnect',
      `${rate(capacity.reconnectRate)}/s`,
      reconnectMinutes === undefined ? 'never all sent' : `all sent after ${duration(reconnectMinutes * 60_000)}`,
    ],
    ['Memory', bytes(capacity.sessionBytes), 'for counted sessions, with [tap.rabbitmq] only'],
    ['Cost', `${dollars(cost.total)}`, 'a month'],
    [
      '',
      '',
      `SNS ${dollars(cost.sns)} with ${capacity.perRequest.toFixed(1)} in a request, daemons ${dollars(cost.daemons)}, brokers ${dollars(cost.brokers)}, disks ${dollars(cost.disks)}`,
    ],
  ];
  const lines = rows.map(([name, value, note]) => `${name.padEnd(14)}${value.padStart(14)}  ${note}`.trimEnd());
  return `${lines.join('\n')}\n\nWithout what subscribers cost. Formulas and sources: docs/scaling.md, or --json.\n`;
}

const dollars = (value: number): string => `$${count(value)}`;
const hours = (value: number): string => duration(value * 3_600_000);
