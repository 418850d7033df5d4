/** What axe-core finds wrong with a page for people who can't see or handle it as others do. */
import assert from 'node:assert/strict';
import axe, { type Result } from 'axe-core';
import type { Page } from 'playwright-core';

/**
 * Every rule that it has, but experimental ones; answers what is broken and where. It measures with styles of its own, so the
 * page has to be opened with `bypassCSP`.
 */
export async function violationsOf(page: Page): Promise<string[]> {
  if (!(await page.evaluate('Boolean(window.axe)'))) await page.evaluate(axe.source);
  const found = (await page.evaluate(
    `axe.run({ resultTypes: ['violations'], preload: false }).then(({ violations }) => violations)`,
  )) as Result[];
  return found.map(
    ({ id, help, nodes }) => `${id} (${help}): ${nodes.map(({ target }) => target.join(' ')).join(', ')}`,
  );
}

/** The same in light and dark, as wide as a desk's screen, a phone and a desk's screen at 400 %; fails where anything is broken. */
export async function assertAccessible(page: Page, state: string): Promise<void> {
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme });
    // 1280 px at 400 % are 320 (WCAG 2.2, 1.4.10).
    for (const width of [1_280, 360, 320]) {
      await page.setViewportSize({ width, height: 800 });
      assert.deepEqual(await violationsOf(page), [], `${state}: ${colorScheme}, ${width} px`);
    }
  }
}
