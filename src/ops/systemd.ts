/**
 * Notifies systemd, for `Type=notify` and `WatchdogSec=` (sd_notify(3)); does nothing where no systemd waits.
 *
 * systemd listens on a datagram socket in the Unix domain, which Node.js can't send to by itself: its dgram knows UDP
 * only, and its FFI is experimental and not in every release that we run on. So systemd's own `systemd-notify` does, a
 * few milliseconds of a child process at a start, a reload, a stop and each third of WatchdogSec. Since v246 it waits
 * until systemd has read the message, so the message is never that of a process which is gone. It takes
 * `NotifyAccess=all` in the unit.
 */
import { execFile } from 'node:child_process';
import { messageOf } from '../errors.ts';
import type { Logger } from './log.ts';

export interface ServiceNotifier {
  /** The daemon is ready: after a start and after a reload. */
  ready(): Promise<void>;
  reloading(): Promise<void>;
  /** The daemon stops: no more watchdog messages; the unit's TimeoutStopSec applies. */
  stopping(): Promise<void>;
}

interface NotifierSetup {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /**
   * One line for `systemctl status`. Computed for every watchdog message from the parts that must work, so that
   * a daemon with an unreadable outbox sends none: it throws then.
   */
  readonly status: () => string;
  readonly log: Logger;
  /** Sends variables to systemd; by default with `systemd-notify`. */
  readonly send?: (variables: readonly string[]) => Promise<void>;
}

/** Watchdog messages per WatchdogSec: one may be late, and one lost. */
const SIGNS = 3;
const SEND_TIMEOUT_MS = 5_000;

export function createNotifier({ environment, status, log, send = systemdNotify }: NotifierSetup): ServiceNotifier {
  if (!environment.NOTIFY_SOCKET) return { ready: async () => {}, reloading: async () => {}, stopping: async () => {} };
  const interval = watchdogInterval(environment);
  let watchdog: NodeJS.Timeout | undefined;
  let last = Promise.resolve();
  let pending = 0;

  /** In sequence: systemd must see the begin of a reload before its end. */
  const tell = (...variables: string[]): Promise<void> => {
    pending += 1;
    last = last
      .then(() => send(variables))
      .catch((error) => log.warn({ problem: messageOf(error) }, "can't notify systemd; is systemd-notify installed?"))
      .finally(() => {
        pending -= 1;
      });
    return last;
  };
  // Runs on the event loop on purpose: a hanging loop sends no watchdog messages.
  const sign = () => {
    if (pending > 0) return;
    try {
      void tell('WATCHDOG=1', `STATUS=${oneLine(status())}`);
    } catch (error) {
      log.error({ problem: messageOf(error) }, 'watchdog signal to systemd skipped: the outbox does not answer');
    }
  };

  return {
    ready() {
      if (interval !== undefined) watchdog ??= setInterval(sign, interval).unref();
      return tell('READY=1', `STATUS=${oneLine(status())}`);
    },
    // systemd distinguishes this reload's messages from an earlier one's by it (Type=notify-reload).
    reloading: () => tell('RELOADING=1', `MONOTONIC_USEC=${process.hrtime.bigint() / 1_000n}`),
    stopping() {
      clearInterval(watchdog);
      return tell('STOPPING=1');
    },
  };
}

/** Interval of watchdog messages, in milliseconds; undefined if systemd expects none from this process. */
export function watchdogInterval({
  WATCHDOG_USEC: usec,
  WATCHDOG_PID: pid,
}: Readonly<Record<string, string | undefined>>): number | undefined {
  if (!usec || !/^[1-9]\d*$/.test(usec)) return undefined;
  if (pid && Number(pid) !== process.pid) return undefined;
  return Math.max(Math.floor(Number(usec) / 1_000 / SIGNS), 1);
}

const oneLine = (text: string): string => text.replaceAll(/\s+/g, ' ');

function systemdNotify(variables: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile('systemd-notify', [...variables], { timeout: SEND_TIMEOUT_MS }, (error) =>
      error ? reject(error) : resolve(),
    );
  });
}
