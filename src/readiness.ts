/** Why a pusher is not ready: one function for `/readyz`, the metrics, systemd's status and the console. */
import { bytes as size } from './format.js';
import type { Health } from './outbox/outbox.ts';
import type { TopicState } from './pipeline/publisher.ts';
import type { TapState } from './taps/tap.ts';

/** A reason for not being ready, with advice. */
export interface NotReady {
  readonly what: string;
  readonly reason: string;
  readonly advice?: string;
}

interface Parts {
  readonly taps: readonly (TapState & { readonly name: string })[];
  readonly outbox: Health;
  readonly topics: readonly TopicState[];
  /** Topics with a backlog that no section owns. */
  readonly orphaned: readonly string[];
}

/** All reasons; none if it is ready. */
export function reasonsNotReady({ taps, outbox, topics, orphaned }: Parts): NotReady[] {
  const found: NotReady[] = [];
  for (const { name, problem } of taps) if (problem) found.push({ what: `tap ${name}`, ...problem });
  const { fault, bytes, maxBytes } = outbox;
  if (fault) found.push({ what: 'outbox', reason: fault });
  if (bytes >= maxBytes)
    found.push({
      what: 'outbox',
      reason: `is full: ${size(bytes)} of ${size(maxBytes)}`,
      advice: 'fix what keeps notifications from being sent, delete dead letters, or raise outbox.max_bytes',
    });
  for (const { topic, pause } of topics)
    if (pause)
      found.push({ what: `topic ${topic}`, reason: `paused: ${pause.reason}: ${pause.detail}`, advice: pause.advice });
  for (const topic of orphaned)
    found.push({
      what: `topic ${topic}`,
      reason: 'has notifications that nobody sends: no section has its account and region',
      advice: "configure a section with the topic's region and account_id, and reload",
    });
  return found;
}
