/** The check of imports detects violations, and the project has none. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import {
  circlesIn,
  drawParts,
  type Imports,
  importsOf,
  misdirected,
  readImports,
  withPicture,
} from '../scripts/imports.ts';

const graph = (edges: Record<string, string[]>): Imports => new Map(Object.entries(edges));

describe('the check of imports', () => {
  it('finds imports of every form, but none in text or of packages', () => {
    const text = `
      import type { A } from './a.ts';
      import {
        type B,
        c,
      } from '../b/b.ts';
      import './bare.ts';
      export { d } from './d.ts';
      export * from './e.ts';
      import fastify from 'fastify';
      const f = await import('./f.ts');
      type G = import('./g.ts').G;
      const text = "import x from './not.ts'";
      // import { h } from './h.ts';
    `;
    assert.deepEqual(importsOf(text, 'src/x/x.ts'), [
      'src/x/a.ts',
      'src/b/b.ts',
      'src/x/bare.ts',
      'src/x/d.ts',
      'src/x/e.ts',
      'src/x/f.ts',
      'src/x/g.ts',
    ]);
  });

  it('finds import cycles of two, of three, and of one', () => {
    const imports = graph({
      'a.ts': ['b.ts'],
      'b.ts': ['c.ts', 'elsewhere.ts'],
      'c.ts': ['a.ts', 'd.ts'],
      'd.ts': ['e.ts'],
      'e.ts': ['d.ts'],
      'f.ts': ['f.ts', 'a.ts'],
      'g.ts': ['f.ts', 'e.ts'],
    });
    assert.deepEqual(circlesIn(imports), [['d.ts', 'e.ts'], ['a.ts', 'b.ts', 'c.ts'], ['f.ts']]);
  });

  it('finds imports against the direction, and files of no part', () => {
    const imports = graph({
      'src/pipeline/lanes.ts': ['src/sns/client.ts', 'src/outbox/outbox.ts', 'src/errors.ts'],
      'src/sns/client.ts': ['src/errors.ts', 'src/notification/notification.ts'],
      'src/errors.ts': ['src/version.ts'],
      'src/ops/live.ts': ['src/cli/tail.ts'],
      'src/cli/tail.ts': ['src/ops/live.ts', 'src/sns/client.ts'],
      'src/pusher.ts': ['src/cli/tail.ts', 'src/sns/client.ts'],
      'src/new/new.ts': [],
      'bench/run.ts': ['src/sns/client.ts'],
    });
    assert.deepEqual(misdirected(imports), [
      'src/pipeline/lanes.ts imports src/sns/client.ts: pipeline may not know sns',
      'src/ops/live.ts imports src/cli/tail.ts: ops may not know cli',
      'src/pusher.ts imports src/cli/tail.ts: pusher may not know cli',
      'src/new/new.ts is of no part: list it in scripts/imports.ts',
    ]);
  });

  it('draws the parts and their imports', () => {
    const imports = graph({ 'src/cli/a.ts': ['src/taps/http/b.ts', 'src/errors.ts'], 'src/taps/http/b.ts': [] });
    assert.equal(drawParts(imports), 'flowchart TD\n    cli[cli]\n    taps_http[taps/http]\n    cli --> taps_http');
  });

  it('the project has no import cycle', () => {
    assert.deepEqual(circlesIn(readImports(['src', 'bench', 'scripts'])), []);
  });

  it("the architecture's diagram is up to date", () => {
    const text = readFileSync(new URL('../docs/architecture.md', import.meta.url), 'utf8');
    assert.match(text, /```mermaid\nflowchart TD/);
    assert.equal(text, withPicture(text), 'run: npm run docs');
  });
});
