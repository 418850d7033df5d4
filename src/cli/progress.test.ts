import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createProgressBar } from './progress.ts';

function terminal(isTTY: boolean) {
  const written: string[] = [];
  return { isTTY, written, write: (text: string | Uint8Array) => written.push(String(text)) > 0 };
}

describe('progress', () => {
  it('progress is one line on a terminal, and is erased at the end', () => {
    const screen = terminal(true);
    const progress = createProgressBar('deleted', 3_000, screen);
    progress.show(1_000);
    progress.show(3_000);
    progress.end();
    assert.deepEqual(screen.written, [
      '\rdeleted: 1,000 of 3,000 (33 %)\x1b[K',
      '\rdeleted: 3,000 of 3,000 (100 %)\x1b[K',
      '\r\x1b[K',
    ]);
  });

  it('progress prints nothing without a terminal', () => {
    const pipe = terminal(false);
    const progress = createProgressBar('deleted', 0, pipe);
    progress.show(0);
    progress.end();
    assert.deepEqual(pipe.written, []);
    assert.equal(progress.visible, false);
  });
});
