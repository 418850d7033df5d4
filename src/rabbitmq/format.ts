/**
 * The format of what we keep in RabbitMQ: a number in a header of each message, so that a daemon of an older release
 * leaves alone what it would misread. What was written before there were numbers is of format 1.
 */
import type { BrokerProblem } from './explain.ts';

/** The newest that this release reads, and the one that it writes. */
export const FORMAT = 1;

/** The header of what we write. */
export const FORMAT_HEADER = { v: FORMAT };

/** @param headers of a message */
export function problemOfFormat(headers: unknown, what: string): BrokerProblem | undefined {
  const { v } = (headers ?? {}) as { v?: unknown };
  if (typeof v !== 'number' || v <= FORMAT) return undefined;
  return {
    kind: 'newer',
    reason: `${what} is of format ${v}, which a newer release wrote: this one reads formats up to ${FORMAT}`,
    advice: 'upgrade this daemon; until then it stays where it is, and nothing of it is lost',
  };
}
