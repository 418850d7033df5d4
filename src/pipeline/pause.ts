/**
 * Why and until when one topic sends nothing: the sink, or the connection to it, fails for all of its notifications.
 *
 * Maintained invariants:
 * - The answer to a request sent before the pause neither begins nor ends one.
 * - After a pause a single request goes out as a test; the pause ends for good when the sink accepts something of it.
 */
import type { Log } from '../log.ts';
import type { Pause, Report } from './report.ts';
import { pauseLength } from './retry.ts';

interface TopicPauseOptions {
  readonly topic: string;
  readonly log: Log;
  readonly report: Report;
  /** Milliseconds since the Unix epoch. */
  readonly now: () => number;
  /** Called when a pause is over. */
  readonly onOver: () => void;
}

export class TopicPause {
  readonly #options: TopicPauseOptions;
  /** Timers and the numbers of requests decide its end and order, not the clock, which may be set at any time. */
  #pause: (Pause & { over: boolean; readonly firstRequest: number }) | undefined;
  /** Consecutive pauses without an accepted notification in between. */
  #inARow = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: TopicPauseOptions) {
    this.#options = options;
  }

  /** The current pause, over or not; undefined without one. */
  get current(): Pause | undefined {
    return this.#pause;
  }

  /**
   * Whether a request may be sent.
   * @param inFlight the topic's open requests
   */
  allows(inFlight: number): boolean {
    return !this.#pause || (inFlight === 0 && this.#pause.over);
  }

  /**
   * Begins a pause; consecutive ones grow longer.
   * @param request number of the failed request
   * @param next number of the next request
   */
  begin(request: number, next: number, why: Pick<Pause, 'reason' | 'detail' | 'advice'>): void {
    if (this.#isOlder(request)) return;
    const { topic, log, report, now, onOver } = this.#options;
    const began = now();
    this.#inARow += 1;
    const length = pauseLength(this.#inARow);
    const times = { since: this.#pause?.since ?? began, began, until: began + length };
    const pause = { ...why, ...times, over: false, firstRequest: next };
    this.#pause = pause;
    log.warn({ topic, ...why, pauseMs: length }, 'topic paused: nothing is lost, publishing resumes after the pause');
    report.paused(topic, pause);
    const end = () => {
      pause.over = true;
      onOver();
    };
    clearTimeout(this.#timer);
    this.#timer = setTimeout(end, length).unref();
  }

  /** Stops the timer. */
  stop(): void {
    clearTimeout(this.#timer);
  }

  /** Allows a request early; false without a pause. */
  cutShort(): boolean {
    if (!this.#pause) return false;
    this.#pause.over = true;
    return true;
  }

  /** The sink accepted something of a request. */
  taken(request: number): void {
    if (!this.#pause || this.#isOlder(request)) return;
    const { topic, log, report, now } = this.#options;
    const pausedMs = now() - this.#pause.since;
    log.info({ topic, pausedMs }, 'topic resumed');
    report.resumed(topic, pausedMs);
    this.#pause = undefined;
    this.#inARow = 0;
  }

  #isOlder(request: number): boolean {
    return this.#pause !== undefined && request < this.#pause.firstRequest;
  }
}
