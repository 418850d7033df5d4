/**
 * Why and until when one topic sends nothing: the sink, or the way to it, fails for all of its notifications.
 *
 * Maintained invariants:
 * - What was sent before a pause began says nothing new when its answer comes: it neither begins nor ends one.
 * - When a pause is over, a single request goes out to see; the pause ends for good when the sink
 *   takes something of it.
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
  /**
   * Its end and what came before it are told by a timer and by the requests' numbers, for the clock may be set at any
   * time.
   */
  #pause: (Pause & { over: boolean; readonly firstRequest: number }) | undefined;
  /** Pauses in a row without anything taken in between. */
  #inARow = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: TopicPauseOptions) {
    this.#options = options;
  }

  /** The pause that it is in, over or not; undefined when it is in none. */
  get current(): Pause | undefined {
    return this.#pause;
  }

  /**
   * Whether a request may go out.
   * @param inFlight how many of the topic's requests are under way
   */
  allows(inFlight: number): boolean {
    return !this.#pause || (inFlight === 0 && this.#pause.over);
  }

  /**
   * Begins a pause, each in a row longer than the one before.
   * @param request number of the request that failed
   * @param next number of the next request to be sent
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
    log.warn({ topic, ...why, pauseMs: length }, 'topic paused: nothing is lost, it is tried again after the pause');
    report.paused(topic, pause);
    const end = () => {
      pause.over = true;
      onOver();
    };
    clearTimeout(this.#timer);
    this.#timer = setTimeout(end, length).unref();
  }

  /** Nothing happens by itself any more. */
  stop(): void {
    clearTimeout(this.#timer);
  }

  /** Lets a request out before the time is over; false when there is no pause. */
  cutShort(): boolean {
    if (!this.#pause) return false;
    this.#pause.over = true;
    return true;
  }

  /** The sink took something of a request. */
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
