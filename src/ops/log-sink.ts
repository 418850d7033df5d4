/**
 * Where the log's lines go: a file descriptor, written at once, for what a dying daemon last said is what its operator
 * needs most.
 *
 * Maintained invariants:
 * - `write` never throws and, where the reader does not read, waits for a bounded time: the log may fail, the daemon may not.
 * - Each line that is lost is counted, and the first line after a failure says how many were.
 */
import { writeSync } from 'node:fs';

/** How the log is. */
export interface LogHealth {
  /** Why it can't be written; undefined when it can, as far as is known. */
  readonly fault: string | undefined;
  /** Lines that are lost, since the start. */
  readonly lost: number;
}

export interface LogSink {
  /** @param line with its line break */
  write(line: string): void;
  health(): LogHealth;
}

interface SinkSetup {
  readonly fd: number;
  /** Called when the log can be written again, and now and then to find out: writes a line of how many are lost. */
  readonly announce: (fault: string, lost: number) => void;
  /** Writes a part of the buffer and answers how many bytes; by default to `fd`. @throws as `fs.writeSync` */
  readonly writeTo?: (buffer: Uint8Array) => number;
  /** Tells a person another way; throws where that fails too. By default standard error. */
  readonly tell?: (text: string) => void;
  /** How often to look whether it can be written again, in milliseconds. */
  readonly probeMs?: number;
}

const PROBE_MS = 10_000;
/** How long a line may wait for a reader that does not keep up, in milliseconds. */
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
    // A line that was cut off must not swallow the next one.
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
    fault = code === 'EAGAIN' ? 'nobody reads it (EAGAIN)' : message;
    probe ??= setInterval(look, probeMs).unref();
    if (told) return;
    try {
      tell(`xmpp-event-pusher: the log can't be written: ${fault}\n`);
      told = true;
    } catch {
      // Standard error often goes where the log goes. The next line that is lost tries again.
    }
  };

  /** Tries to say what is lost, which ends the failure when it works. */
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
