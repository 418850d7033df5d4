/**
 * The loop from the outbox to a sink: receives each topic's backlog into lanes, packs batches, sends them, and acts on
 * every verdict.
 *
 * Maintained invariants:
 * - At most `poolSize` requests are open, and a request's slot is free only after the outbox has settled its outcome.
 *   So after a kill the sink sees no more duplicates than there were entries in open requests.
 * - Open requests hold a bounded number of bytes, so memory is bounded whatever the size of the notifications.
 * - A notification leaves the lanes only when it is settled: delivered or a dead letter.
 * - A paused topic does not delay the others.
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

/**
 * Limit of the bytes in open requests, beyond which each topic has one request at most. A byte takes several in memory: as
 * text, as a form, and in the socket. Sixteen of SNS's largest requests are a gigabit a second at 30 ms each.
 */
const MOST_BYTES = 4_194_304;

export interface PublisherOptions {
  readonly sink: Sink;
  readonly outbox: Outbox;
  /** The topics that it publishes to. */
  readonly topics: readonly string[];
  /** Maximum number of open requests. */
  readonly poolSize: number;
  /** How often a notification is retried before `exhausted` applies. */
  readonly retryCount: number;
  /** Base of the delays between retries, in milliseconds. */
  readonly retryBaseMs: number;
  /** What happens to a notification after its last retry. */
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
  /** Open requests. */
  readonly inFlight: number;
  /** When the sink last asked for a lower rate; undefined if it never did. */
  readonly throttled?: Throttling | undefined;
  /** The pool of requests that all topics of a publisher share: its size, and the open ones. */
  readonly pool: { readonly size: number; readonly inFlight: number };
}

export interface Publisher {
  topics(): TopicState[];
  /** Ends a topic's pause early; false for another publisher's topic or one that is not paused. */
  tryNow(topic: string): boolean;
  /** Publishes to another topic too. */
  serve(topic: string): void;
  /** Sends nothing more, and waits for open requests, at most `graceMs`. The rest stays in the outbox. */
  stop(graceMs: number): Promise<void>;
}

type Retry = Extract<Verdict, { kind: 'retry' }>;

/** The verdict if the sink itself is at fault and the outcome unknown. */
const faulty = (shown: string): Verdict => ({
  kind: 'retry',
  throttled: false,
  reason: 'SinkFaulty',
  detail: shown,
  shown,
  advice: 'fix the sink: it should return each failure as a verdict, one for each notification',
});

/** Creates and starts a publisher. */
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
  /** Of the notifications in open requests. */
  #bytes = 0;
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
   * Pumps at the end of this turn of the event loop, once for all requests that end in it: their slots and lanes are
   * filled together, and running the same code for many requests in a row saves a tenth of the CPU time.
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

  /** Pumps again after the rate's delay; further calls have no effect until then. */
  #pumpIn(ms: number): void {
    this.#paced ??= setTimeout(() => {
      this.#paced = undefined;
      this.#pump();
    }, ms).unref();
  }

  /** The next topic, in turn, that may send something. */
  #nextTopic(): Topic | undefined {
    for (let step = 0; step < this.#topics.length; step++) {
      const topic = this.#topics[this.#next++ % this.#topics.length] as Topic;
      const hasRoom = topic.inFlight === 0 || this.#bytes < MOST_BYTES;
      if (hasRoom && topic.maySend()) return topic;
    }
    return undefined;
  }

  /** One request and its consequences. */
  async #send(topic: Topic, batch: readonly Entry[]): Promise<void> {
    const bytes = batch.reduce((sum, { notification }) => sum + notification.bytes, 0);
    this.#inFlight += 1;
    this.#bytes += bytes;
    topic.begin();
    const request = this.#requests++;
    const verdicts = await this.#ask(topic, batch);
    if (verdicts === 'split') {
      // One entry is at fault. They belong to different lanes, so the order of the halves does not matter.
      const middle = Math.ceil(batch.length / 2);
      topic.halves.push(batch.slice(0, middle), batch.slice(middle));
    } else {
      await this.#settle(topic, batch, request, verdicts);
    }
    this.#inFlight -= 1;
    this.#bytes -= bytes;
    topic.inFlight -= 1;
    if (this.#running) this.#pumpSoon();
    if (this.#inFlight === 0) this.#idle?.();
  }

  /** Sends a batch to the sink, and reports the answer. */
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
        log.error({ topic: topic.name, problem }, 'the sink returned an invalid answer; retrying its notifications');
        verdicts = batch.map(() => faulty(`the sink ${problem}`));
      }
    } catch (error) {
      // A sink returns failures as verdicts. One that throws is at fault itself: the outcome is unknown.
      log.error({ topic: topic.name, code: codeOf(error) }, 'the sink threw an error; retrying its notifications');
      verdicts = batch.map(() => faulty('the sink threw an error'));
    }
    const at = this.#now();
    report.request({ topic: topic.name, entries, verdicts, receipt, ms: at - started, at });
    return verdicts;
  }

  /** Acts on the verdict for each of a request's entries, and waits until the outbox has settled them. */
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
    // The lanes may continue now: their next entries are settled after these, so a kill can't leave a gap.
    const wanted = lanes.settled(settled);
    if (this.#running) this.#pumpSoon();
    if (settlements.length > 0) await backlog.settle(settlements);
    if (wanted.length > 0) lanes.loaded(await backlog.load(wanted));
  }

  /** After an error worth a retry: retry soon, or, after the last retry, decide what happens. */
  #again(topic: Topic, entry: Entry, request: number, verdict: Retry): 'soon' | 'wait' | 'dead' {
    const { retryCount, retryBaseMs, exhausted, rate } = this.#options;
    // Throttling is not this notification's fault: the rate falls for all instead.
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
    // Nor is a failure after the stop: the stop may have aborted the request.
    return exhausted === 'wait' || !this.#running || entry.blamed <= retryCount ? 'wait' : 'dead';
  }

  /**
   * If the sink accepted nothing else since it began to fail, the topic pauses. Otherwise this notification waits
   * alone, longer each time.
   */
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
    // After the stop, a failure only means that the request was aborted.
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
    // Without the detail: the sink may quote the message, which must not be logged.
    const line = { topic: topic.name, event: eventId, reason: dead.reason };
    log.error(line, 'notification became a dead letter');
  }
}
