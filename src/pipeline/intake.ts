/**
 * From a tap's batch to the outbox: skips events seen before, translates the rest, and commits the outcome together
 * with the source's position.
 *
 * Maintained invariant: only the holder of a source's cursor moves its position, so the batches of one source's epoch
 * are handled one after another.
 */
import { randomUUID } from 'node:crypto';
import { type ErrorCode, PusherError } from '../errors.ts';
import { isMalformed, type MalformedEvent, type NewEvent, parseEvent, type XmppEvent } from '../event.ts';
import type { Log } from '../log.ts';
import { type EventKind, kindOf } from '../notification/kind.ts';
import {
  type Notification,
  type Route,
  type SkipReason,
  type Translation,
  translate,
} from '../notification/notification.ts';
import type { DeadLetter, NewDeadLetter } from '../outbox/dead-letters.ts';
import type { Cursor, Outbox } from '../outbox/outbox.ts';
import type { Batch, Receipt, Receive } from '../taps/tap.ts';
import type { BatchReport, Report } from './report.ts';

export interface IntakeOptions {
  readonly outbox: Outbox;
  /** How a virtual host publishes; undefined: not at all. */
  readonly routeOf: (host: string) => Route | undefined;
  readonly log: Log;
  readonly report: Report;
}

/** The outcome of a list of events. Reported only after the commit, because a refused batch comes again. */
interface Translated {
  readonly notifications: Notification[];
  readonly deadLetters: NewDeadLetter[];
  readonly rejected: { index: number; reason: string }[];
  /** New events by kind. */
  readonly kinds: Map<EventKind, number>;
  readonly skipped: { readonly event: XmppEvent; readonly reason: SkipReason }[];
}

export interface Intake {
  readonly receive: Receive;
  /**
   * Puts dead letters through the same steps again; one that fails or is skipped becomes a new dead letter.
   * @throws PusherError like {@link Receive}; the remaining ones are unchanged
   */
  replay(letters: readonly DeadLetter[]): Promise<void>;
}

const NOTHING: Receipt = { accepted: 0, duplicates: 0, rejected: [] };

export function createIntake(options: IntakeOptions): Intake {
  return {
    async receive(batch) {
      const { tap, source, numbering, events } = batch;
      const contact = (refused?: ErrorCode) => {
        // The request of `adapter check` belongs to no source.
        if (events.length === 0 && !numbering) return;
        const newestAt = newestOf(events);
        options.report.contact({ tap, source, numbered: !!numbering, events: events.length, newestAt, refused });
      };
      try {
        const receipt = await receive(options, batch);
        contact();
        return receipt;
      } catch (error) {
        if (error instanceof PusherError) contact(error.code);
        throw error;
      }
    },
    async replay(letters) {
      for (const letter of letters) await replay(options, letter);
    },
  };
}

async function receive(options: IntakeOptions, batch: Batch): Promise<Receipt> {
  const { outbox } = options;
  // Checked before the turn: while the disk fails, an earlier batch of the source may wait for long.
  if (outbox.fault) throw outbox.fault;
  // An empty batch only tests the connection and leaves no trace.
  if (batch.events.length === 0) return NOTHING;
  if (!batch.numbering) return receiveUnnumbered(options, batch);
  const cursor = await outbox.source(batch.source, batch.numbering.epoch);
  try {
    return await receiveNumbered(options, batch, batch.numbering, cursor);
  } finally {
    cursor.release();
  }
}

async function receiveUnnumbered(options: IntakeOptions, batch: Batch): Promise<Receipt> {
  const translated = await translateAll(options, batch.events, 0, () => randomUUID(), batch.traceparent);
  await options.outbox.commit(translated);
  return receiptOf(options, batch, translated, { duplicates: 0, missing: 0, conflicts: 0 });
}

async function receiveNumbered(
  options: IntakeOptions,
  batch: Batch,
  { epoch, first }: NonNullable<Batch['numbering']>,
  cursor: Cursor,
): Promise<Receipt> {
  const { source, events, traceparent } = batch;
  // The first contact with an epoch is a baseline, not a hole: the daemon may be new, or replace another.
  const known = cursor.last ?? first - 1;
  const duplicates = Math.min(Math.max(known - first + 1, 0), events.length);
  const missing = Math.max(first - known - 1, 0);
  const prefix = `${source}/${epoch}/`;
  const idOf = (index: number) => prefix + (first + index);
  const translated = await translateAll(options, events, duplicates, idOf, traceparent);
  const conflicts = conflictsAmong(events.slice(0, duplicates), cursor.newestAt);
  if (duplicates < events.length)
    await cursor.commit(translated, { last: first + events.length - 1, missing, newestAt: newestOf(events) });
  if (conflicts > 0)
    options.log.error(
      { source, epoch, from: first, to: first + duplicates - 1, conflicts },
      'a source used the same numbers for different events: two runs share an epoch, as after a restored snapshot; these events are dropped as duplicates unless the adapter sends them again under a new epoch',
    );
  if (missing > 0)
    options.log.warn(
      { source, epoch, from: known + 1, to: first - 1, missing },
      'hole in the numbers of a source: these events never arrived; an adapter whose queue is full drops the newest',
    );
  return receiptOf(options, batch, translated, { duplicates, missing, conflicts });
}

/** The time of the newest event; undefined if none has one. */
function newestOf(events: readonly (NewEvent | MalformedEvent)[]): number | undefined {
  let newest: number | undefined;
  for (const event of events) if (!isMalformed(event) && !(event.at <= (newest ?? -1))) newest = event.at;
  return newest;
}

/**
 * How many of a batch's duplicates happened after everything seen of the epoch: they can't be the events that had their
 * numbers before. Misses some if a clock was set back.
 */
function conflictsAmong(duplicates: readonly (NewEvent | MalformedEvent)[], newestAt: number | undefined): number {
  if (newestAt === undefined) return 0;
  return duplicates.filter((event) => !isMalformed(event) && event.at > newestAt).length;
}

/** Reports the outcome of a committed batch. */
function receiptOf(
  options: IntakeOptions,
  { tap, source, events }: Batch,
  translated: Translated,
  { duplicates, missing, conflicts }: Pick<BatchReport, 'duplicates' | 'missing' | 'conflicts'>,
): Receipt {
  const { kinds, rejected } = translated;
  options.report.batch({ tap, source, kinds, duplicates, rejected: rejected.length, missing, conflicts });
  reportEach(options, translated);
  return { accepted: events.length - duplicates - rejected.length, duplicates, rejected };
}

/** @param from index of the first new event */
async function translateAll(
  { routeOf }: Pick<IntakeOptions, 'routeOf'>,
  events: readonly (NewEvent | MalformedEvent)[],
  from: number,
  idOf: (index: number) => string,
  traceparent?: string,
): Promise<Translated> {
  const translated: Translated = { notifications: [], deadLetters: [], rejected: [], kinds: new Map(), skipped: [] };
  /** Events whose plugin is still working, and all after them, to preserve the order. */
  const waiting: (readonly [XmppEvent, Translation | Promise<Translation>])[] = [];
  const route = rememberLast(routeOf);
  for (let index = from; index < events.length; index++) {
    const given = events[index] as NewEvent | MalformedEvent;
    if (isMalformed(given)) {
      translated.rejected.push({ index, reason: given.problem });
      translated.deadLetters.push(letterOfMalformed(idOf(index), given));
      continue;
    }
    const event: XmppEvent = { ...given, id: idOf(index), traceparent };
    const kind = kindOf(event);
    translated.kinds.set(kind, (translated.kinds.get(kind) ?? 0) + 1);
    const translation = translate(event, route(event.host));
    if (translation instanceof Promise || waiting.length > 0) waiting.push([event, translation]);
    else place(event, translation, translated);
  }
  for (const [event, translation] of waiting) place(event, await translation, translated);
  return translated;
}

/** Caches the last host's route: the events of a batch often share a host. */
function rememberLast(routeOf: IntakeOptions['routeOf']): IntakeOptions['routeOf'] {
  let last: { readonly host: string; readonly route: Route | undefined } | undefined;
  return (host) => {
    if (last?.host !== host) last = { host, route: routeOf(host) };
    return last.route;
  };
}

/** Adds a translated event to the outcome. */
function place(event: XmppEvent, translation: Translation, into: Translated): void {
  if (translation.kind === 'publish') {
    into.notifications.push(translation.notification);
  } else if (translation.kind === 'skip') {
    into.skipped.push({ event, reason: translation.reason });
  } else {
    const { reason, detail } = translation;
    const content = { kind: 'event', event } as const;
    into.deadLetters.push({ eventId: event.id, topic: undefined, reason, detail, attempts: 0, content });
  }
}

function reportEach({ report, log }: IntakeOptions, { skipped, deadLetters }: Translated): void {
  for (const { event, reason } of skipped) report.skipped(event, reason);
  for (const letter of deadLetters) {
    report.deadLetter(letter);
    // Without the detail: a plugin's error may quote the message, which must not be logged.
    log.warn({ event: letter.eventId, reason: letter.reason }, 'event became a dead letter');
  }
}

const letterOfMalformed = (eventId: string, { problem, raw }: MalformedEvent): NewDeadLetter => ({
  eventId,
  topic: undefined,
  reason: 'malformed',
  detail: problem,
  attempts: 0,
  content: { kind: 'raw', event: raw },
});

async function replay(options: IntakeOptions, { id, eventId, content }: DeadLetter): Promise<void> {
  const translated =
    content.kind === 'notification'
      ? undefined
      : keepSkipped(await translateAll(options, [parseEvent(content.event)], 0, () => eventId));
  const notifications = content.kind === 'notification' ? [content.notification] : (translated?.notifications ?? []);
  const deadLetters = translated?.deadLetters ?? [];
  // Before the commit, because the sink may have it before the commit resolves.
  options.report.replaying(eventId);
  await options.outbox.commit({ notifications, deadLetters, replaces: [id] });
  const [again] = deadLetters;
  if (again) {
    // Only our own details: others may quote the message.
    const skipped = translated?.skipped[0]?.reason;
    options.log.warn(
      { deadLetter: id, event: eventId, reason: again.reason, skipped },
      'replay failed: the notification is a dead letter again',
    );
  } else options.log.info({ deadLetter: id, event: eventId }, 'dead letter replayed');
  if (translated) reportEach(options, translated);
}

/** A replay asks for the event to be published: if it would be skipped, it stays a dead letter with the reason. */
function keepSkipped(translated: Translated): Translated {
  const kept = translated.skipped.map(({ event, reason }): NewDeadLetter => {
    const content = { kind: 'event', event } as const;
    return { eventId: event.id, topic: undefined, reason: 'skipped', detail: reason, attempts: 0, content };
  });
  return { ...translated, deadLetters: [...translated.deadLetters, ...kept] };
}
