/** A progress bar: one line on a terminal, removed when the work is done; elsewhere nothing. */
import { count } from '../format.js';

export interface ProgressBar {
  /** Whether it is visible. */
  readonly visible: boolean;
  show(done: number): void;
  end(): void;
}

type Terminal = Pick<NodeJS.WriteStream, 'isTTY' | 'write'>;

/** @param total the final count of `show` */
export function createProgressBar(label: string, total: number, terminal: Terminal = process.stderr): ProgressBar {
  const visible = terminal.isTTY === true;
  return {
    visible,
    show(done) {
      const share = total === 0 ? 100 : Math.min(100, Math.floor((100 * done) / total));
      if (visible) terminal.write(`\r${label}: ${count(done)} of ${count(total)} (${share} %)\x1b[K`);
    },
    end() {
      if (visible) terminal.write('\r\x1b[K');
    },
  };
}
