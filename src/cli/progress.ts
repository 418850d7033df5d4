/** ProgressBar of long work: one line on a terminal, which goes when the work is done; nothing anywhere else. */
import { count } from '../format.js';

export interface ProgressBar {
  /** Whether anybody sees it. */
  readonly visible: boolean;
  show(done: number): void;
  end(): void;
}

type Terminal = Pick<NodeJS.WriteStream, 'isTTY' | 'write'>;

/** @param total what `show` counts up to */
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
