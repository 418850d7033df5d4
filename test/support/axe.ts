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

/** Colours and widths of a desk's screen, of a phone, and of a desk's screen at 400 %, which is 320 px (WCAG 2.2, 1.4.10). */
const VIEWS = [
  ['light', 1_280],
  ['dark', 1_280],
  ['light', 360],
  ['dark', 320],
] as const;

/** The same in light and dark, and in several widths; fails where anything is broken. */
export async function assertAccessible(page: Page, state: string): Promise<void> {
  for (const [colorScheme, width] of VIEWS) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 800 });
    assert.deepEqual(await violationsOf(page), [], `${state}: ${colorScheme}, ${width} px`);
  }
}
