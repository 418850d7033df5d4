/** Limits for RabbitMQ's answers: some never come, as those of a queue that lost its leader. */
import { setTimeout as sleep } from 'node:timers/promises';

/** How long an answer may take, in milliseconds. */
const ANSWER_MS = 10_000;
/** How long work of many messages may stand still, in milliseconds. */
const SILENCE_MS = 30_000;

/** @param late called with an answer that comes too late */
export async function answered<T>(
  answer: Promise<T>,
  question: string,
  late: (answer: T) => void = () => {},
): Promise<T> {
  const { promise: over, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    reject(noAnswer(question, ANSWER_MS));
    answer.then(late, () => undefined);
  }, ANSWER_MS);
  try {
    return await Promise.race([answer, over]);
  } finally {
    clearTimeout(timer);
  }
}

export interface ProgressOptions {
  readonly what: string;
  /** Whether nothing can happen at the moment, however long that lasts: an alarm. */
  readonly isPaused: () => boolean;
  /** When something happened last, in milliseconds of `performance.now()`. */
  readonly lastAt?: () => number;
  readonly silenceMs?: number;
}

/** Waits for work as long as it goes forward. */
export async function progressing<T>(work: Promise<T>, options: ProgressOptions): Promise<T> {
  const { what, isPaused, lastAt = () => 0, silenceMs = SILENCE_MS } = options;
  const { promise: over, reject } = Promise.withResolvers<never>();
  let since = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    if (isPaused()) since = now;
    if (now - Math.max(since, lastAt()) >= silenceMs) reject(noAnswer(what, silenceMs));
  }, silenceMs / 10);
  try {
    return await Promise.race([work, over]);
  } finally {
    clearInterval(timer);
  }
}

/** Waits for something, but no longer than this. */
export async function atMost(ms: number, work: Promise<unknown>): Promise<void> {
  const over = new AbortController();
  try {
    await Promise.race([work, sleep(ms, undefined, { signal: over.signal }).catch(() => undefined)]);
  } finally {
    over.abort();
  }
}

const noAnswer = (question: string, ms: number) =>
  new Error(`RabbitMQ did not answer within ${ms / 1_000} s (${question})`);
