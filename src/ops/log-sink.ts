/**
 * Writes the log's lines to a file descriptor, synchronously, because the last lines of a dying daemon are those that
 * its operator needs most.
 *
 * Maintained invariants:
 * - `write` never throws, and waits a bounded time for a slow reader: the log may fail, the daemon may not.
 * - Each lost line is counted, and the first line after a failure reports how many.
 */
import { writeSync } from 'node:fs';

/** The state of the log. */
export interface LogHealth {
  /** Why writing fails; undefined while it works, as far as known. */
  readonly fault: string | undefined;
  /** Lines lost since the start. */
  readonly lost: number;
}

export interface LogSink {
  /** @param line with its line break */
  write(line: string): void;
  health(): LogHealth;
}

interface SinkSetup {
  readonly fd: number;
  /** Called when writing works again, and now and then to find out: writes a line with the number of lost lines. */
  readonly announce: (fault: string, lost: number) => void;
  /** Writes a part of the buffer and returns the number of bytes; by default to `fd`. @throws as `fs.writeSync` */
  readonly writeTo?: (buffer: Uint8Array) => number;
  /** Reports the failure another way, by default on standard error; throws if that fails too. */
  readonly tell?: (text: string) => void;
  /** Interval for retrying a failed log, in milliseconds. */
  readonly probeMs?: number;
}

const PROBE_MS = 10_000;
/** How long a line may wait for a slow reader, in milliseconds. */
const PATIENCE_MS = 100;
const STEP_MS = 5;

export function createLogSink({
  fd,
  announce,
  writeTo = (buffer) => writeSync(fd, buffer),
  tell = (text) => void writeSync(process.stderr.fd, text),
  probeMs = PROBE_MS,
}: SinkSetup): LogSink {
  let fault: string | undefined;
  let told = false;
  let lost = 0;
  let lostBefore = 0;
  let broken = false;
  let announcing = false;
  let probe: NodeJS.Timeout | undefined;

  /** Whether the whole line was written. */
  const attempt = (line: string): boolean => {
    // A truncated line must not swallow the next one.
    let rest: Uint8Array = Buffer.from(broken ? `\n${line}` : line);
    const whole = rest.length;
    let patience = fault === undefined ? PATIENCE_MS : 0;
    while (rest.length > 0) {
      try {
        rest = rest.subarray(writeTo(rest));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EAGAIN' && patience > 0) {
          patience -= STEP_MS;
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, STEP_MS);
          continue;
        }
        if (rest.length < whole) broken = true;
        failed(error);
        return false;
      }
    }
    broken = false;
    return true;
  };

  const failed = (error: unknown) => {
    const { code, message } = error as NodeJS.ErrnoException;
    if (fault === undefined) lostBefore = lost;
    fault = code === 'EAGAIN' ? 'its reader does not read (EAGAIN)' : message;
    probe ??= setInterval(look, probeMs).unref();
    if (told) return;
    try {
      tell(`xmpp-event-pusher: the log can't be written: ${fault}\n`);
      told = true;
    } catch {
      // Standard error often has the log's destination. The next lost line tries again.
    }
  };

  /** Tries to report the lost lines; success ends the failure. */
  const look = () => {
    if (fault === undefined || announcing) return;
    announcing = true;
    announce(fault, lost - lostBefore);
    announcing = false;
  };

  return {
    write(line) {
      if (!attempt(line)) {
        if (!announcing) lost += 1;
      } else if (announcing) {
        fault = undefined;
        told = false;
        clearInterval(probe);
        probe = undefined;
      } else look();
    },
    health: () => ({ fault, lost }),
  };
}
