/**
 * From a tap's batch to the outbox: finds what was seen already, checks and translates the rest, and commits what came
 * of it together with the source's position.
 *
 * Maintained invariant: the batches of one source's epoch are taken one after the other, so that between looking its
 * position up and committing the next one nothing moves it.
 */
import { randomUUID } from 'node:crypto';
import type { XmppEvent } from '../event.ts';
import { type EventKind, kindOf } from '../notification/kind.ts';
import {
  type Notification,
  type Route,
  type SkipReason,
  type Translation,
  translate,
} from '../notification/notification.ts';
import type { Logger } from '../ops/log.ts';
import type { Metrics } from '../ops/metrics.ts';
import type { DeadLetter, NewDeadLetter, Outbox } from '../outbox/outbox.ts';
import { parseEvent } from '../taps/http/payload.ts';
import type { Receipt, Receive, TapBatch } from '../taps/tap.ts';

export interface IntakeOptions {
  readonly outbox: Outbox;
  /** How a virtual host publishes; undefined: not at all. */
  readonly routeOf: (host: string) => Route | undefined;
  readonly log: Logger;
  readonly metrics: Metrics;
}

/** What came of a list of events. Counted only after the commit: what is put off comes again. */
interface Outcome {
  readonly notifications: Notification[];
  readonly deadLetters: NewDeadLetter[];
  readonly rejected: { index: number; reason: string }[];
  /** New events by kind. */
  readonly kinds: Map<EventKind, number>;
  readonly skipped: { readonly event: XmppEvent; readonly reason: SkipReason }[];
}

export interface Intake {
  readonly receive: Receive;
  /** Sends dead letters through the same steps again; one that fails or is skipped becomes a new dead letter. */
  replay(letters: readonly DeadLetter[]): Promise<void>;
}

export function createIntake(options: IntakeOptions): Intake {
  const inTurn = turns();
  return {
    async receive(batch) {
      // Before its turn: while the disk fails, an earlier one of the source may wait for long.
      if (options.outbox.fault) throw options.outbox.fault;
      if (!batch.numbering) return receiveBatch(options, batch);
      return inTurn(`${batch.source}\n${batch.numbering.epoch}`, () => receiveBatch(options, batch));
    },
    replay: (letters) => replay(options, letters),
  };
}

async function receiveBatch(options: IntakeOptions, batch: TapBatch): Promise<Receipt> {
  const { outbox, metrics, log } = options;
  const { tap, source, numbering, events, traceparent } = batch;
  // Asks whether anyone is there: it leaves no trace.
  if (events.length === 0) return { accepted: 0, duplicates: 0, rejected: [] };
  const known = numbering ? outbox.positionOf(source, numbering.epoch) : 0;
  const first = numbering?.first ?? 1;
  const duplicates = numbering ? Math.min(Math.max(known - first + 1, 0), events.length) : 0;
  const missing = numbering ? Math.max(first - known - 1, 0) : 0;
  const idOf = (index: number) => (numbering ? `${source}/${numbering.epoch}/${first + index}` : randomUUID());

  const outcome = await process(options, events, duplicates, idOf, traceparent);
  if (duplicates < events.length)
    await outbox.commit({
      position: numbering && { source, epoch: numbering.epoch, last: first + events.length - 1, missing },
      notifications: outcome.notifications,
      deadLetters: outcome.deadLetters,
    });

  if (missing > 0) {
    metrics.hole(source, missing);
    log.warn(
      { source, epoch: numbering?.epoch, from: known + 1, to: first - 1, missing },
      'hole in the numbers of a source: these events never came; a full queue of its adapter drops the newest',
    );
  }
  metrics.received(tap, source, { kinds: outcome.kinds, duplicates, rejected: outcome.rejected.length });
  count(options, outcome);
  const accepted = events.length - duplicates - outcome.rejected.length;
  return { accepted, duplicates, rejected: outcome.rejected };
}

async function process(
  options: IntakeOptions,
  events: readonly unknown[],
  from: number,
  idOf: (index: number) => string,
  traceparent?: string,
): Promise<Outcome> {
  const outcome: Outcome = { notifications: [], deadLetters: [], rejected: [], kinds: new Map(), skipped: [] };
  const translations: (readonly [XmppEvent, Translation | Promise<Translation>])[] = [];
  let waits = false;
  for (let index = from; index < events.length; index++) {
    const raw = events[index];
    const parsed = parseEvent(raw);
    if ('problem' in parsed) {
      outcome.rejected.push({ index, reason: parsed.problem });
      outcome.deadLetters.push(malformed(idOf(index), parsed.problem, raw));
      continue;
    }
    const event = { ...parsed.event, id: idOf(index), traceparent } as XmppEvent;
    const kind = kindOf(event);
    outcome.kinds.set(kind, (outcome.kinds.get(kind) ?? 0) + 1);
    const translation = translate(event, options.routeOf(event.host));
    waits ||= translation instanceof Promise;
    translations.push([event, translation]);
  }
  for (const [event, translation] of translations)
    place(event, waits ? await translation : (translation as Translation), outcome);
  return outcome;
}

/** Puts a translated event where it belongs. */
function place(event: XmppEvent, translation: Translation, outcome: Outcome): void {
  if (translation.kind === 'publish') {
    outcome.notifications.push(translation.notification);
  } else if (translation.kind === 'skip') {
    outcome.skipped.push({ event, reason: translation.reason });
  } else {
    const { reason, detail } = translation;
    const content = { kind: 'event', event } as const;
    outcome.deadLetters.push({ eventId: event.id, topic: undefined, reason, detail, attempts: 0, content });
  }
}

function count({ metrics, log }: IntakeOptions, { skipped, deadLetters }: Outcome): void {
  for (const { event, reason } of skipped) metrics.skipped(kindOf(event), reason);
  for (const { eventId, reason } of deadLetters) {
    metrics.deadLetter(undefined, reason);
    // Not the detail: a plugin's error may quote the message, and that stays out of the log.
    log.warn({ event: eventId, reason }, 'event became a dead letter; see `dead-letters show`');
  }
}

const malformed = (eventId: string, problem: string, event: unknown): NewDeadLetter => ({
  eventId,
  topic: undefined,
  reason: 'malformed',
  detail: problem,
  attempts: 0,
  content: { kind: 'raw', event },
});

async function replay(options: IntakeOptions, letters: readonly DeadLetter[]): Promise<void> {
  for (const { id, eventId, content } of letters) {
    const outcome =
      content.kind === 'notification'
        ? undefined
        : keepSkipped(await process(options, [content.event], 0, () => eventId));
    const notifications = content.kind === 'notification' ? [content.notification] : (outcome?.notifications ?? []);
    const deadLetters = outcome?.deadLetters ?? [];
    await options.outbox.commit({ position: undefined, notifications, deadLetters, replaces: [id] });
    const [again] = deadLetters;
    if (again) {
      // Of a detail only ours: another may quote the message.
      const skipped = outcome?.skipped[0]?.reason;
      options.log.warn(
        { deadLetter: id, event: eventId, reason: again.reason, skipped },
        'dead letter replayed in vain: it is a dead letter again',
      );
    } else options.log.info({ deadLetter: id, event: eventId }, 'dead letter replayed');
    if (outcome) count(options, outcome);
  }
}

/** Who asks for a replay wants the event published: one that would be skipped stays, as a dead letter that says why. */
function keepSkipped(outcome: Outcome): Outcome {
  const kept = outcome.skipped.map(({ event, reason }): NewDeadLetter => {
    const content = { kind: 'event', event } as const;
    return { eventId: event.id, topic: undefined, reason: 'skipped', detail: reason, attempts: 0, content };
  });
  return { ...outcome, deadLetters: [...outcome.deadLetters, ...kept] };
}

/** Runs tasks of one key one after the other, those of different keys side by side. */
function turns(): <T>(key: string, task: () => Promise<T>) => Promise<T> {
  const last = new Map<string, Promise<unknown>>();
  return (key, task) => {
    const before = last.get(key);
    const mine = before ? before.then(task, task) : task();
    last.set(key, mine);
    const forget = () => {
      if (last.get(key) === mine) last.delete(key);
    };
    mine.then(forget, forget);
    return mine;
  };
}
