/**
 * The loop from the outbox to a sink: has each topic's backlog handed out into lanes, packs batches, sends them, and
 * turns every verdict into what happens next.
 *
 * Maintained invariants:
 * - At most `poolSize` requests are under way, and a request's slot is free again only when the outbox has settled what
 *   came of it. So what a kill makes the sink see twice is never more than what was under way.
 * - A notification leaves the lanes only when it is settled: delivered or a dead letter.
 * - A topic that is paused does not hold up the others.
 */
import { codeOf } from '../errors.ts';
import type { Log } from '../log.ts';
import type { NewDeadLetter } from '../outbox/dead-letters.ts';
import type { Outbox, Settlement } from '../outbox/outbox.ts';
import type { Throttling } from './condition.ts';
import type { Entry } from './lanes.ts';
import { TopicPause } from './pause.ts';
import type { RateLimit } from './rate.ts';
import type { Pause, Report } from './report.ts';
import { pauseLength, retryDelay } from './retry.ts';
import { answerProblem, limitsOf, type Sink, type SinkReceipt, type Verdict } from './sink.ts';
import { Topic } from './topic.ts';

export interface PublisherOptions {
  readonly sink: Sink;
  readonly outbox: Outbox;
  /** The topics that it publishes to. */
  readonly topics: readonly string[];
  /** Most requests under way at once. */
  readonly poolSize: number;
  /** How often a notification is tried again before `exhausted` applies. */
  readonly retryCount: number;
  /** Base of the waits between tries, in milliseconds. */
  readonly retryBaseMs: number;
  /** What happens to a notification when its retries are used up. */
  readonly exhausted: 'wait' | 'dead-letter';
  /** The rate of messages; shared by all publishers of one quota. */
  readonly rate: RateLimit;
  readonly log: Log;
  readonly report: Report;
  /** Milliseconds since the Unix epoch. */
  readonly now?: () => number;
  /** Uniform in [0, 1). */
  readonly random?: () => number;
}

export interface TopicState {
  readonly topic: string;
  readonly pause: Pause | undefined;
  /** Requests under way. */
  readonly inFlight: number;
  /** The last time that the sink asked for a lower rate; undefined when it never did. */
  readonly throttled?: Throttling | undefined;
  /** The requests that all topics of a publisher share: how many there may be, and how many are under way. */
  readonly pool: { readonly size: number; readonly inFlight: number };
}

export interface Publisher {
  topics(): TopicState[];
  /** Ends a topic's pause before its time; false when it is none of its topics or not paused. */
  tryNow(topic: string): boolean;
  /** Publishes to another topic too. */
  serve(topic: string): void;
  /** Sends nothing more, and waits for what is under way, for `graceMs` at most. What is left stays in the outbox. */
  stop(graceMs: number): Promise<void>;
}

type Retry = Extract<Verdict, { kind: 'retry' }>;

/** Of a sink that has a fault of its own, so that nothing is known of what it was given. */
const faulty = (shown: string): Verdict => ({
  kind: 'retry',
  throttled: false,
  reason: 'SinkFaulty',
  detail: shown,
  shown,
  advice: 'mend the sink: what goes wrong there should be a verdict, one for each notification',
});

/** Makes a publisher and starts it. */
export function createPublisher(options: PublisherOptions): Publisher {
  return new TopicPublisher(options);
}

class TopicPublisher implements Publisher {
  readonly #options: PublisherOptions;
  readonly #now: () => number;
  readonly #random: () => number;
  readonly #topics: Topic[];
  readonly #timers = new Set<NodeJS.Timeout>();
  #next = 0;
  #requests = 0;
  #inFlight = 0;
  #running = true;
  #pumping: NodeJS.Immediate | undefined;
  #idle: (() => void) | undefined;
  #paced: NodeJS.Timeout | undefined;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#random = options.random ?? Math.random;
    this.#topics = options.topics.map((name) => this.#open(name));
    this.#pump();
  }

  topics(): TopicState[] {
    const pool = { size: this.#options.poolSize, inFlight: this.#inFlight };
    return this.#topics.map(({ name: topic, pause, inFlight, throttled }) => ({
      topic,
      pause: pause.current,
      inFlight,
      throttled,
      pool,
    }));
  }

  tryNow(name: string): boolean {
    const topic = this.#topics.find((topic) => topic.name === name);
    if (!topic?.pause.cutShort()) return false;
    this.#pump();
    return true;
  }

  serve(name: string): void {
    this.#topics.push(this.#open(name));
    this.#pump();
  }

  async stop(graceMs: number): Promise<void> {
    this.#running = false;
    for (const timer of [...this.#timers, this.#paced]) clearTimeout(timer);
    clearImmediate(this.#pumping);
    for (const topic of this.#topics) topic.stop();
    if (this.#inFlight > 0) await this.#untilIdle(graceMs);
    // Only one consumer of a topic's backlog may be active: the next one begins after this.
    await Promise.all(this.#topics.map(({ backlog }) => backlog.close()));
  }

  async #untilIdle(graceMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const idle = new Promise<void>((resolve) => {
      this.#idle = resolve;
    });
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, graceMs);
    });
    await Promise.race([idle, late]);
    clearTimeout(timer);
  }

  #open(name: string): Topic {
    const { outbox, log, report, sink } = this.#options;
    return new Topic({
      name,
      outbox,
      pause: new TopicPause({ topic: name, log, report, now: this.#now, onOver: () => this.#pump() }),
      maxEntries: () => limitsOf(sink, name).maxEntries,
      onChange: () => this.#pumpSoon(),
      onGathered: () => this.#pump(),
    });
  }

  /**
   * Pumps at the end of this turn of the event loop, once for all the requests that end in it: what their slots and lanes
   * send next is packed together, and the same code at work for many requests in a row takes a tenth less of the processor.
   */
  #pumpSoon(): void {
    this.#pumping ??= setImmediate(() => {
      this.#pumping = undefined;
      this.#pump();
    });
  }

  /** Sends while there is a free slot and something to send; what arrives meanwhile is packed together. */
  #pump(): void {
    if (!this.#running) return;
    for (const topic of this.#topics) topic.refill();
    const { poolSize, rate, sink } = this.#options;
    while (this.#inFlight < poolSize) {
      const topic = this.#nextTopic();
      if (!topic) return;
      const { halves, lanes, name } = topic;
      const { maxEntries, maxBytes } = limitsOf(sink, name);
      const wanted = Math.min(maxEntries, halves[0]?.length ?? lanes.readyCount);
      const may = rate.available(wanted);
      if (may < 1) {
        this.#pumpIn(rate.wait(wanted));
        return;
      }
      void this.#send(topic, halves.shift() ?? lanes.take(Math.min(maxEntries, may), maxBytes));
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
      if (topic.maySend()) return topic;
    }
    return undefined;
  }

  /** One request and all that comes of it. */
  async #send(topic: Topic, batch: readonly Entry[]): Promise<void> {
    this.#inFlight += 1;
    topic.begin();
    const request = this.#requests++;
    const verdicts = await this.#ask(topic, batch);
    if (verdicts === 'split') {
      // One of them is at fault. They are of different lanes, so the order of the halves doesn't matter.
      const middle = Math.ceil(batch.length / 2);
      topic.halves.push(batch.slice(0, middle), batch.slice(middle));
    } else {
      await this.#settle(topic, batch, request, verdicts);
    }
    this.#inFlight -= 1;
    topic.inFlight -= 1;
    if (this.#running) this.#pumpSoon();
    if (this.#inFlight === 0) this.#idle?.();
  }

  /** Asks the sink to take a batch, and reports what it said. */
  async #ask(topic: Topic, batch: readonly Entry[]): Promise<readonly (Verdict | undefined)[] | 'split'> {
    const { sink, report, rate, log } = this.#options;
    rate.spend(batch.length);
    const started = this.#now();
    const entries = batch.map(({ notification }) => notification);
    let verdicts: readonly (Verdict | undefined)[] | 'split';
    let receipt: SinkReceipt | undefined;
    try {
      verdicts = await sink.publish(topic.name, entries, (given) => {
        receipt = given;
      });
      const problem = answerProblem(verdicts, batch.length);
      if (problem) {
        log.error({ topic: topic.name, problem }, 'the sink gave no usable answer; what it was given is tried again');
        verdicts = batch.map(() => faulty(`the sink ${problem}`));
      }
    } catch (error) {
      // A sink answers what went wrong as a verdict. One that throws has a fault of its own: nothing is known.
      log.error({ topic: topic.name, code: codeOf(error) }, 'the sink threw; what it was given is tried again');
      verdicts = batch.map(() => faulty('the sink threw an error'));
    }
    const at = this.#now();
    report.request({ topic: topic.name, entries, verdicts, receipt, ms: at - started, at });
    return verdicts;
  }

  /** Turns the verdict on each of a request's entries into what happens next, and waits until the outbox has it. */
  async #settle(
    topic: Topic,
    batch: readonly Entry[],
    request: number,
    verdicts: readonly (Verdict | undefined)[],
  ): Promise<void> {
    const { backlog, lanes } = topic;
    const settlements: Settlement[] = [];
    const settled: Entry[] = [];
    const settle = (entry: Entry, dead?: Settlement['dead']) => {
      settled.push(entry);
      settlements.push(dead ? { notification: entry.notification, dead } : { notification: entry.notification });
      if (dead) this.#died(topic, entry, dead);
    };
    const anyTaken = verdicts.includes(undefined);
    if (anyTaken) topic.lastTaken = Math.max(topic.lastTaken, request);
    for (let index = 0; index < batch.length; index++) {
      const entry = batch[index] as Entry;
      const verdict = verdicts[index];
      if (!verdict) {
        settle(entry);
      } else if (verdict.kind === 'dead') {
        settle(entry, { reason: verdict.reason, detail: verdict.detail, attempts: entry.attempts + 1 });
      } else if (verdict.kind === 'pause') {
        this.#pause(topic, request, verdict);
        lanes.release(entry);
      } else {
        const next = this.#again(topic, entry, request, verdict);
        const { reason, detail } = verdict;
        if (next === 'dead') settle(entry, { reason, detail, attempts: entry.attempts });
        if (next === 'wait') this.#exhausted(topic, entry, request, verdict);
      }
    }
    if (anyTaken) topic.pause.taken(request);
    // The lanes may go on now: what follows in them is settled after this, so a kill can't leave a gap.
    const wanted = lanes.settled(settled);
    if (this.#running) this.#pumpSoon();
    if (settlements.length > 0) await backlog.settle(settlements);
    if (wanted.length > 0) lanes.loaded(await backlog.load(wanted));
  }

  /** After an error worth another try: tried again soon, or, the retries used up, what is to become of it. */
  #again(topic: Topic, entry: Entry, request: number, verdict: Retry): 'soon' | 'wait' | 'dead' {
    const { retryCount, retryBaseMs, exhausted, rate } = this.#options;
    // Throttling says nothing about this notification: the rate falls instead, for all of them.
    if (verdict.throttled) {
      rate.throttled(1);
      const { reason, shown: detail, advice } = verdict;
      topic.throttled = { at: this.#now(), reason, detail, advice };
    } else entry.attempts += 1;
    if (!verdict.throttled && !verdict.surroundings) entry.blamed += 1;
    entry.failingSince ??= request;
    if (entry.attempts <= retryCount) {
      this.#releaseIn(topic, entry, retryDelay(Math.max(entry.attempts, 1), retryBaseMs, this.#random()));
      return 'soon';
    }
    // Once stopped it says nothing either: the request may have been cut off by that.
    return exhausted === 'wait' || !this.#running || entry.blamed <= retryCount ? 'wait' : 'dead';
  }

  /** The sink took nothing else since it began to fail: the topic waits. It took others: it waits by itself, longer each time. */
  #exhausted(topic: Topic, entry: Entry, request: number, verdict: Retry): void {
    const othersPass = topic.lastTaken >= (entry.failingSince ?? request);
    entry.failingSince = undefined;
    if (!othersPass) {
      this.#pause(topic, request, verdict);
      topic.lanes.release(entry);
      return;
    }
    this.#releaseIn(topic, entry, pauseLength(entry.attempts - this.#options.retryCount));
    const { eventId: event } = entry.notification;
    const line = { topic: topic.name, event, reason: verdict.reason, attempts: entry.attempts };
    this.#options.log.warn(line, 'only this notification keeps failing; holding it and those behind it');
  }

  #releaseIn(topic: Topic, entry: Entry, ms: number): void {
    if (!this.#running) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      topic.lanes.release(entry);
      this.#pump();
    }, ms).unref();
    this.#timers.add(timer);
  }

  #pause(topic: Topic, request: number, { reason, shown, advice }: Verdict): void {
    // Once stopped, a failure says only that the request was cut off.
    if (this.#running) topic.pause.begin(request, this.#requests, { reason, detail: shown, advice });
  }

  #died(topic: Topic, { notification }: Entry, dead: Pick<NewDeadLetter, 'reason' | 'detail' | 'attempts'>): void {
    const { log, report } = this.#options;
    const { seq: _, ...content } = notification;
    const { eventId } = notification;
    report.deadLetter({
      eventId,
      topic: topic.name,
      ...dead,
      content: { kind: 'notification', notification: content },
    });
    // Not the detail: the sink may quote what it refused, and that stays out of the log.
    const line = { topic: topic.name, event: eventId, reason: dead.reason };
    log.error(line, 'notification became a dead letter');
  }
}
