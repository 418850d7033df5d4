/**
 * Why and until when one topic sends nothing: SNS, or the way to it, fails for all of its notifications.
 *
 * Maintained invariants:
 * - What was sent before a pause began says nothing new when its answer comes: it neither begins nor ends one.
 * - When a pause is over, a single request goes out to see; the pause ends for good when SNS takes something of it.
 */
import type { Logger } from '../ops/log.ts';
import { pauseLength } from '../sns/verdict.ts';

/** Why a topic waits, and until when it does so at least. */
export interface Pause {
  readonly reason: string;
  readonly detail: string;
  readonly advice: string;
  /** When it stopped taking, when this pause began and when it ends; milliseconds since the Unix epoch. */
  readonly since: number;
  readonly began: number;
  readonly until: number;
}

interface TopicPauseOptions {
  readonly topic: string;
  readonly log: Logger;
  /** Milliseconds since the Unix epoch. */
  readonly now: () => number;
  /** Told when a pause is over. */
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
    const { topic, log, now, onOver } = this.#options;
    const began = now();
    this.#inARow += 1;
    const length = pauseLength(this.#inARow);
    const times = { since: this.#pause?.since ?? began, began, until: began + length };
    const pause = { ...why, ...times, over: false, firstRequest: next };
    this.#pause = pause;
    log.warn({ topic, ...why, pauseMs: length }, 'topic paused: nothing is lost, it is tried again after the pause');
    const end = () => {
      pause.over = true;
      onOver();
    };
    setTimeout(end, length).unref();
  }

  /** Lets a request out before the time is over; false when there is no pause. */
  cutShort(): boolean {
    if (!this.#pause) return false;
    this.#pause.over = true;
    return true;
  }

  /** SNS took something of a request. */
  taken(request: number): void {
    if (!this.#pause || this.#isOlder(request)) return;
    const { topic, log, now } = this.#options;
    log.info({ topic, pausedMs: now() - this.#pause.since }, 'topic resumed');
    this.#pause = undefined;
    this.#inARow = 0;
  }

  #isOlder(request: number): boolean {
    return this.#pause !== undefined && request < this.#pause.firstRequest;
  }
}
