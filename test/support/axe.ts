/** Checks a page's accessibility with axe-core. */
import assert from 'node:assert/strict';
import axe, { type Result } from 'axe-core';
import type { Page } from 'playwright-core';

/**
 * Runs every rule except experimental ones; returns what is broken and where. It measures with its own styles, so open
 * the page with `bypassCSP`.
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

/**
 * Colours and widths of a desktop screen, a phone, and a desktop screen at 400 %, which is 320 px (WCAG 2.2, 1.4.10).
 */
const VIEWS = [
  ['light', 1_280],
  ['dark', 1_280],
  ['light', 360],
  ['dark', 320],
] as const;

/** Checks the page in light and dark and in several widths; fails if anything is broken. */
export async function assertAccessible(page: Page, state: string): Promise<void> {
  for (const [colorScheme, width] of VIEWS) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 800 });
    assert.deepEqual(await violationsOf(page), [], `${state}: ${colorScheme}, ${width} px`);
  }
}
