/**
 * Contacts of sources since the daemon started: their last request, their rate, whether they are put off, and whether
 * their clocks agree with this one. Positions and holes are in the outbox.
 *
 * Maintained invariant: its memory is bounded by MOST sources; it remembers the most recent ones.
 */
import type { ErrorCode } from '../errors.ts';
import type { ContactReport, Report } from '../pipeline/report.ts';

/** A source's contacts. Times are milliseconds since the Unix epoch. */
export interface Contact {
  readonly source: string;
  /** Whether its events are numbered; without numbers, repetitions and losses can't be detected. */
  readonly numbered: boolean;
  /** Its last request, whatever the answer. */
  readonly at: number;
  /** When its events were last accepted; undefined: never. */
  readonly keptAt: number | undefined;
  /** Accepted events per second, a mean of some 10 s. */
  readonly rate: number;
  /** While it is put off: refusals per second, and the reason. */
  readonly refused: { readonly rate: number; readonly reason: string } | undefined;
  /**
   * How far its clock is ahead of this one, in milliseconds; negative: the least age of its events on arrival,
   * because its queue is behind or its clock slow. 0 while the difference is insignificant.
   */
  readonly clockMs: number;
}

export interface Contacts {
  readonly report: Pick<Report, 'contact'>;
  /** Forgets a retired source; false if it is unknown. */
  forget(source: string): boolean;
  /** Updates the rates. */
  sample(now: number): void;
  /** The contacts by source. */
  all(now: number): ReadonlyMap<string, Contact>;
}

interface Track {
  numbered: boolean;
  at: number;
  keptAt: number | undefined;
  kept: number;
  rate: number;
  put: number;
  refusedRate: number;
  refusedAt: number;
  reason: string;
  /** Greatest lead of the newest event over this clock, in this window and the previous one; undefined: no event. */
  ahead: number | undefined;
  aheadBefore: number | undefined;
}

const MOST = 1_000;
/** Time constant of the mean rate, in seconds. */
const STEADY_S = 10;
/** How long a source counts as put off after a refusal: adapters wait for up to 30 s. */
const REFUSED_MS = 45_000;
/** Window for comparing clocks: an occasional late event doesn't mean a slow clock. */
const WINDOW_MS = 60_000;
/** Tolerance for events from the future: clocks always differ a little. */
const AHEAD_MS = 5_000;
const BEHIND_MS = 120_000;

const REASONS: Partial<Record<ErrorCode, string>> = {
  OUTBOX_FULL: 'outbox full',
  OUTBOX_UNUSABLE: "outbox can't be written",
  OUTBOX_CLOSED: 'the daemon stops',
};

/** @param now milliseconds since the Unix epoch */
export function createContacts(now: () => number = Date.now): Contacts {
  /** The most recent one is last. */
  const tracks = new Map<string, Track>();
  let sampledAt = now();
  let windowSince = sampledAt;

  const trackOf = (source: string): Track => {
    const track = tracks.get(source) ?? newTrack();
    tracks.delete(source);
    tracks.set(source, track);
    if (tracks.size > MOST) tracks.delete(tracks.keys().next().value as string);
    return track;
  };
  return {
    report: {
      contact({ source, numbered, events, newestAt, refused }: ContactReport) {
        const at = now();
        const track = trackOf(source);
        track.at = at;
        track.numbered = numbered;
        if (newestAt !== undefined) track.ahead = Math.max(track.ahead ?? Number.NEGATIVE_INFINITY, newestAt - at);
        if (refused !== undefined) {
          track.put += 1;
          track.refusedAt = at;
          track.reason = REASONS[refused] ?? refused;
        } else if (events > 0) {
          track.keptAt = at;
          track.kept += events;
        }
      },
    },
    forget: (source) => tracks.delete(source),
    sample(at) {
      const seconds = Math.max(at - sampledAt, 1) / 1_000;
      sampledAt = at;
      const share = Math.min(seconds / STEADY_S, 1);
      for (const track of tracks.values()) {
        track.rate += (track.kept / seconds - track.rate) * share;
        track.refusedRate += (track.put / seconds - track.refusedRate) * share;
        track.kept = 0;
        track.put = 0;
      }
      // Also after this clock was set back.
      if (Math.abs(at - windowSince) < WINDOW_MS) return;
      windowSince = at;
      for (const track of tracks.values()) {
        track.aheadBefore = track.ahead;
        track.ahead = undefined;
      }
    },
    all: (at) => new Map([...tracks].map(([source, track]) => [source, contactOf(source, track, at)])),
  };
}

const newTrack = (): Track => ({
  ...{ numbered: false, at: 0, keptAt: undefined, kept: 0, rate: 0 },
  ...{ put: 0, refusedRate: 0, refusedAt: 0, reason: '', ahead: undefined, aheadBefore: undefined },
});

function contactOf(source: string, track: Track, now: number): Contact {
  const { numbered, at, keptAt, rate, refusedRate, refusedAt, reason, ahead, aheadBefore } = track;
  const isPutOff = refusedAt > (keptAt ?? 0) && now - refusedAt < REFUSED_MS;
  const seen = [ahead, aheadBefore].filter((value) => value !== undefined);
  const most = seen.length === 0 ? 0 : Math.max(...seen);
  return {
    ...{ source, numbered, at, keptAt, rate },
    refused: isPutOff ? { rate: refusedRate, reason } : undefined,
    clockMs: most > AHEAD_MS || most < -BEHIND_MS ? most : 0,
  };
}
