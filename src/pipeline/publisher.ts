/**
 * The loop from the outbox to SNS for one account: takes what waits, packs batches, sends them, and turns every outcome
 * into what happens next.
 *
 * Maintained invariants:
 * - At most `poolSize` requests are under way, and a request's slot is free again only when the outbox has settled what
 *   came of it. So what a kill makes SNS see twice is never more than what was under way.
 * - A notification leaves the lanes only when it is settled: delivered or a dead letter.
 * - A topic that is paused does not hold up the others.
 */

import type { Notification } from '../notification/notification.ts';
import type { Logger } from '../ops/log.ts';
import type { Metrics } from '../ops/metrics.ts';
import { publishing } from '../ops/tracing.ts';
import type { Outbox, Settlement } from '../outbox/outbox.ts';
import type { SnsClient } from '../sns/client.ts';
import { pauseLength, retryDelay, type Verdict, verdictOf } from '../sns/verdict.ts';
import { MAX_ENTRIES } from '../sns/wire.ts';
import { type Entry, Lanes } from './lanes.ts';
import { type Pause, TopicPause } from './pause.ts';
import type { RateLimit } from './rate.ts';
import { Reader } from './reader.ts';

export interface PublisherOptions {
  readonly client: Pick<SnsClient, 'publishBatch'>;
  readonly outbox: Outbox;
  /** ARNs of the topics it publishes to. */
  readonly topics: readonly string[];
  /** Most requests under way at once. */
  readonly poolSize: number;
  readonly retryCount: number;
  readonly retryBaseMs: number;
  readonly exhausted: 'wait' | 'dead-letter';
  /** The rate of messages; shared by all publishers of one account and region. */
  readonly rate: RateLimit;
  /** What a topic takes for a batch together, in bytes. */
  readonly maxBytes: (topic: string) => number;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Told of each notification that SNS took, and when. */
  readonly onDelivered?: (notification: Notification, at: number) => void;
  readonly now?: () => number;
  readonly random?: () => number;
}

export interface TopicState {
  readonly arn: string;
  readonly pause: Pause | undefined;
  /** Requests under way. */
  readonly inFlight: number;
}

export interface Publisher {
  start(): void;
  topics(): TopicState[];
  /** Ends a topic's pause before its time; false when it is none of its topics or not paused. */
  tryNow(arn: string): boolean;
  /** Publishes to another topic too. */
  serve(arn: string): void;
  /** Takes nothing more, and waits for what is under way, for `graceMs` at most. What is left stays in the outbox. */
  stop(graceMs: number): Promise<void>;
}

type Retry = Extract<Verdict, { kind: 'retry' }>;

interface Topic {
  readonly arn: string;
  readonly lanes: Lanes;
  readonly reader: Reader;
  readonly pause: TopicPause;
  /** Halves of batches that SNS refused as a whole. */
  readonly halves: (readonly Entry[])[];
  inFlight: number;
  /** The last request of which SNS took anything. */
  lastTaken: number;
  /** While it waits for what would fill a batch. */
  gathering: NodeJS.Timeout | undefined;
  /** Whether it has waited long enough. */
  gathered: boolean;
}

/**
 * With so many requests of a topic under way, a batch that is not full waits a moment for more: a request costs SNS's
 * user and this process the same whether it holds one notification or ten. At low load nothing waits.
 */
const BUSY_REQUESTS = 4;
const GATHER_MS = 2;

export function createPublisher(options: PublisherOptions): Publisher {
  return new SnsPublisher(options);
}

class SnsPublisher implements Publisher {
  readonly #options: PublisherOptions;
  readonly #now: () => number;
  readonly #random: () => number;
  readonly #topics: Topic[];
  #next = 0;
  #requests = 0;
  #inFlight = 0;
  #running = false;
  #pumping = false;
  #idle: (() => void) | undefined;
  #paced: NodeJS.Timeout | undefined;
  #unlisten: (() => void) | undefined;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#random = options.random ?? Math.random;
    this.#topics = options.topics.map((arn) => this.#newTopic(arn));
  }

  start(): void {
    this.#running = true;
    this.#unlisten = this.#options.outbox.onCommitted(() => {
      for (const { reader } of this.#topics) reader.more();
      this.#pump();
    });
    this.#pump();
  }

  topics(): TopicState[] {
    return this.#topics.map(({ arn, pause, inFlight }) => ({ arn, pause: pause.current, inFlight }));
  }

  tryNow(arn: string): boolean {
    const topic = this.#topics.find((topic) => topic.arn === arn);
    if (!topic?.pause.cutShort()) return false;
    this.#pump();
    return true;
  }

  serve(arn: string): void {
    this.#topics.push(this.#newTopic(arn));
    this.#pump();
  }

  async stop(graceMs: number): Promise<void> {
    this.#running = false;
    this.#unlisten?.();
    // Whoever takes next from the outbox must find nobody else taking.
    await Promise.all(this.#topics.map(({ reader }) => reader.stop()));
    if (this.#inFlight === 0) return;
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([
      new Promise<void>((resolve) => {
        this.#idle = resolve;
      }),
      new Promise<void>((resolve) => {
        timer = setTimeout(resolve, graceMs);
      }),
    ]);
    clearTimeout(timer);
  }

  #newTopic(arn: string): Topic {
    const { outbox, log } = this.#options;
    const lanes = new Lanes();
    return {
      arn,
      lanes,
      reader: new Reader({ topic: arn, outbox, lanes, log, onRead: () => this.#pump() }),
      pause: new TopicPause({ topic: arn, log, now: this.#now, onOver: () => this.#pump() }),
      halves: [],
      inFlight: 0,
      lastTaken: -1,
      gathering: undefined,
      gathered: false,
    };
  }

  /**
   * Pumps at the end of this turn of the event loop, once for all the requests that end in it: what their slots and lanes
   * send next is packed together, and the same code at work for many requests in a row takes a tenth less of the processor.
   */
  #pumpSoon(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    setImmediate(() => {
      this.#pumping = false;
      this.#pump();
    });
  }

  /** Sends while there is a free slot and something to send; what arrives meanwhile is packed together. */
  #pump(): void {
    if (!this.#running) return;
    for (const { reader } of this.#topics) reader.readAhead();
    const { poolSize, rate, maxBytes } = this.#options;
    while (this.#inFlight < poolSize) {
      const topic = this.#nextTopic();
      if (!topic) return;
      const { halves, lanes } = topic;
      const wanted = Math.min(MAX_ENTRIES, halves[0]?.length ?? lanes.readyCount);
      const may = rate.available(wanted);
      if (may < 1) {
        this.#pumpIn(rate.wait(wanted));
        return;
      }
      void this.#send(topic, halves.shift() ?? lanes.take(Math.min(MAX_ENTRIES, may), maxBytes(topic.arn)));
    }
  }

  /** Pumps again in a while, which the rate asks for; once, however often it is asked. */
  #pumpIn(ms: number): void {
    this.#paced ??= setTimeout(() => {
      this.#paced = undefined;
      this.#pump();
    }, ms).unref();
  }

  /** The next topic, in turn, that has something to send and may. */
  #nextTopic(): Topic | undefined {
    for (let step = 0; step < this.#topics.length; step++) {
      const topic = this.#topics[this.#next++ % this.#topics.length] as Topic;
      const { halves, lanes, pause, inFlight } = topic;
      if ((halves.length > 0 || lanes.ready) && pause.allows(inFlight) && !this.#gathers(topic)) return topic;
    }
    return undefined;
  }

  /** Whether a topic waits for more, so that its next batch is full. */
  #gathers(topic: Topic): boolean {
    const { halves, lanes, inFlight, gathered } = topic;
    if (gathered || inFlight < BUSY_REQUESTS || halves.length > 0 || lanes.readyCount >= MAX_ENTRIES) return false;
    topic.gathering ??= setTimeout(() => {
      topic.gathered = true;
      this.#pump();
    }, GATHER_MS).unref();
    return true;
  }

  /** One request and all that comes of it. */
  async #send(topic: Topic, batch: readonly Entry[]): Promise<void> {
    this.#inFlight += 1;
    topic.inFlight += 1;
    clearTimeout(topic.gathering);
    topic.gathering = undefined;
    topic.gathered = false;
    const request = this.#requests++;
    const verdicts = await this.#ask(topic, batch);
    if (verdicts) {
      await this.#settle(topic, batch, request, verdicts);
    } else {
      // One of them is at fault. They are of different lanes, so the order of the halves doesn't matter.
      const middle = Math.ceil(batch.length / 2);
      topic.halves.push(batch.slice(0, middle), batch.slice(middle));
    }
    this.#inFlight -= 1;
    topic.inFlight -= 1;
    this.#pumpSoon();
    if (this.#inFlight === 0) this.#idle?.();
  }

  /** Turns the verdict on each of a request's entries into what happens next, and waits until the outbox has it. */
  async #settle(
    topic: Topic,
    batch: readonly Entry[],
    request: number,
    verdicts: readonly (Verdict | undefined)[],
  ): Promise<void> {
    const settlements: Settlement[] = [];
    const settled: Entry[] = [];
    const settle = (entry: Entry, dead?: Settlement['dead']) => {
      settled.push(entry);
      settlements.push(dead ? { notification: entry.notification, dead } : { notification: entry.notification });
    };
    const anyTaken = verdicts.includes(undefined);
    if (anyTaken) topic.lastTaken = Math.max(topic.lastTaken, request);
    for (const [index, entry] of batch.entries()) {
      const verdict = verdicts[index];
      if (!verdict) {
        settle(entry);
      } else if (verdict.kind === 'dead') {
        this.#died(topic, entry, verdict.reason);
        settle(entry, { reason: verdict.reason, detail: verdict.detail, attempts: entry.attempts + 1 });
      } else if (verdict.kind === 'pause') {
        this.#pause(topic, request, verdict, verdict.advice);
        topic.lanes.release(entry);
      } else {
        const after = this.#again(topic, entry, request, verdict);
        const { reason, detail } = verdict;
        if (after === 'dead') settle(entry, { reason, detail, attempts: entry.attempts });
        if (after === 'wait') this.#exhausted(topic, entry, request, verdict);
      }
    }
    if (anyTaken) topic.pause.taken(request);
    // The lanes may go on now: what follows in them is settled after this, so a kill can't leave a gap.
    const wanted = topic.lanes.settled(settled);
    this.#pumpSoon();
    if (settlements.length > 0) await this.#options.outbox.settle(settlements);
    if (wanted.length > 0) await topic.reader.fetch(wanted);
  }

  /**
   * Asks SNS to take a batch.
   * @returns for each entry, in order, what the answer means: `undefined` when SNS has it; nothing at all when SNS refused
   *   the request as a whole for what is in it, which says of none of several whether it is the culprit
   */
  async #ask(topic: Topic, batch: readonly Entry[]): Promise<(Verdict | undefined)[] | undefined> {
    const { client, metrics, onDelivered, rate } = this.#options;
    rate.spend(batch.length);
    const started = this.#now();
    const entries = batch.map(({ notification }) => notification);
    const outcome = await publishing(topic.arn, entries, () => client.publishBatch(topic.arn, entries));
    const finished = this.#now();
    metrics.request(topic.arn, batch.length, finished - started);
    if ('failure' in outcome) {
      const verdict = verdictOf(outcome.failure);
      if (verdict.kind === 'dead' && batch.length > 1) return undefined;
      metrics.outcome(topic.arn, verdict.kind, verdict.reason, batch.length);
      return batch.map(() => verdict);
    }
    let delivered = 0;
    const verdicts = entries.map((notification, index) => {
      const failure = outcome.entries[index];
      const verdict = failure && verdictOf(failure);
      if (verdict) {
        metrics.outcome(topic.arn, verdict.kind, verdict.reason, 1);
      } else {
        delivered += 1;
        metrics.delivered(topic.arn, finished - notification.at);
        onDelivered?.(notification, finished);
      }
      return verdict;
    });
    if (delivered > 0) metrics.outcome(topic.arn, 'delivered', '', delivered);
    return verdicts;
  }

  /** After an error worth another try: tried again soon, or, the retries used up, what is to become of it. */
  #again(topic: Topic, entry: Entry, request: number, { throttled, reason }: Retry): 'soon' | 'wait' | 'dead' {
    const { retryCount, retryBaseMs, exhausted, rate } = this.#options;
    // Throttling says nothing about this notification: the rate falls instead, for all of them.
    if (throttled) rate.throttled(1);
    else entry.attempts += 1;
    entry.failingSince ??= request;
    if (entry.attempts <= retryCount) {
      this.#releaseIn(topic, entry, retryDelay(Math.max(entry.attempts, 1), retryBaseMs, this.#random()));
      return 'soon';
    }
    // Once stopped it says nothing either: the request may have been cut off by that.
    if (exhausted === 'wait' || !this.#running) return 'wait';
    this.#died(topic, entry, reason);
    return 'dead';
  }

  /** SNS took nothing else since it began to fail: the topic waits. It took others: it waits by itself, longer each time. */
  #exhausted(topic: Topic, entry: Entry, request: number, verdict: Retry): void {
    const othersPass = topic.lastTaken >= (entry.failingSince ?? request);
    entry.failingSince = undefined;
    if (othersPass) {
      const waits = entry.attempts - this.#options.retryCount;
      this.#releaseIn(topic, entry, pauseLength(waits));
      const line = {
        topic: topic.arn,
        event: entry.notification.eventId,
        reason: verdict.reason,
        attempts: entry.attempts,
      };
      this.#options.log.warn(line, 'SNS fails for this notification and takes others: it waits, and those behind it');
    } else {
      this.#pause(topic, request, verdict, verdict.advice);
      topic.lanes.release(entry);
    }
  }

  #releaseIn(topic: Topic, entry: Entry, ms: number): void {
    const release = () => {
      topic.lanes.release(entry);
      this.#pump();
    };
    setTimeout(release, ms).unref();
  }

  #pause(topic: Topic, request: number, { reason, shown }: Pick<Retry, 'reason' | 'shown'>, advice: string): void {
    topic.pause.begin(request, this.#requests, { reason, detail: shown, advice });
  }

  #died(topic: Topic, { notification }: Entry, reason: string): void {
    this.#options.metrics.deadLetter(topic.arn, reason);
    // Not the detail: SNS may quote what it refused, and that stays out of the log.
    const line = { topic: topic.arn, event: notification.eventId, reason };
    this.#options.log.error(line, 'notification became a dead letter; see `dead-letters show`');
  }
}
