/** Accessibility of the console in a real browser: by keyboard, on a phone, enlarged, in light and dark. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Page } from 'playwright-core';
import { assertAccessible, violationsOf } from '../support/axe.ts';
import { button, hasRows, malformed, rows, says, shows, TOKEN, useConsole } from '../support/console.ts';

describe('the console can be used', () => {
  const pusher = useConsole();

  it('the console works with the keyboard alone', async () => {
    await pusher.start();
    await pusher.post(malformed('1'), says('one'));
    // Without smooth scrolling, which each step would have to wait for.
    const page = await pusher.open({ reducedMotion: 'reduce' });
    await hasRows(page, '#letters', 1);
    await hasRows(page, '#tail', 1);
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate('document.activeElement.textContent'), 'Skip to the content');
    await page.keyboard.press('Enter');
    const controls = (await page.evaluate(CONTROLS)) as string[];
    const reached = await tabThrough(page, controls.length);
    assert.deepEqual(reached, controls, 'each control, in the order of the page');
    assert.ok(reached.length >= 12, reached.join());

    const opener = button(page, /^Open dead letter/);
    await opener.focus();
    await page.keyboard.press('Enter');
    await page.locator('#letter').waitFor();
    await button(page, 'Close').focus();
    assert.deepEqual(await tabThrough(page, 3), ['button show', 'button replay', 'button delete']);
    await page.keyboard.press('Escape');
    const label = await page.evaluate('document.activeElement.ariaLabel');
    assert.equal(label, await opener.getAttribute('aria-label'), 'the focus is back where it was');
    // Arrow keys select a radio button.
    await page.getByRole('radio', { name: '5 min', exact: true }).focus();
    await page.keyboard.press('ArrowRight');
    assert.equal(await page.getByRole('radio', { name: '15 min' }).isChecked(), true);
  });

  /** The elements that Tab reaches; fails if the focus is invisible or covered by the bar. */
  const tabThrough = async (page: Page, count: number): Promise<string[]> => {
    const reached: string[] = [];
    for (let step = 0; step < count; step++) {
      await page.keyboard.press('Tab');
      const { name, seen } = (await page.evaluate(FOCUS)) as { name: string; seen: boolean };
      assert.ok(seen, `the focus is seen on ${name}`);
      reached.push(name);
    }
    return reached;
  };

  for (const colorScheme of ['light', 'dark'] as const)
    it(`the console is readable in ${colorScheme} colours, on a phone and at 400 %`, async () => {
      await pusher.start();
      pusher.fault = (arn) =>
        arn.endsWith('message_sent') ? { kind: 'error', status: 404, code: 'NotFound' } : undefined;
      await pusher.post(says('one'), malformed('1'), { kind: 'presence', jid: 'bob@localhost/laptop', present: true });
      pusher.seq += 2;
      await pusher.post(says('two', 'groupchat'));
      const page = await pusher.open({ bypassCSP: true, colorScheme, viewport: { width: 1280, height: 900 } });
      await shows(rows(page, '#topics'), 'Paused');
      await hasRows(page, '#letters', 1);
      await hasRows(page, '#tail', 2);
      assert.deepEqual(await page.evaluate(FAINT), []);
      // 1280 px at 400 % are 320 px (WCAG 2.2, 1.4.10).
      for (const width of [1_280, 360, 320]) {
        await page.setViewportSize({ width, height: 700 });
        assert.deepEqual(await page.evaluate(SIDEWAYS), [], `sideways at ${width}`);
        assert.deepEqual(await violationsOf(page), [], `at ${width}`);
      }
      await button(page, /^Open dead letter/).click();
      await button(page, 'Show content').click();
      await page.locator('#letter pre').waitFor();
      assert.deepEqual(
        [await page.evaluate(SIDEWAYS), await page.evaluate(FAINT), await violationsOf(page)],
        [[], [], []],
      );
      await page.locator('#letter').getByRole('button', { name: 'Delete' }).click();
      await shows(page.locator('#confirm'), 'Delete dead letter');
      assert.deepEqual(
        [await page.evaluate(SIDEWAYS), await page.evaluate(FAINT), await violationsOf(page)],
        [[], [], []],
      );
    });

  it('the console violates no accessibility rule, with any problem shown', async () => {
    pusher.quietBut = /ERR_(CONNECTION|INCOMPLETE|EMPTY)/;
    await pusher.start();
    const page = await pusher.open({ bypassCSP: true });
    await pusher.post(says('taken'), malformed('1'));
    // A hole, repeated events, and a replay that fails again.
    pusher.seq += 3;
    await pusher.post(malformed('2'));
    pusher.seq -= 1;
    await pusher.post(malformed('2'));
    await hasRows(page, '#letters', 2);
    await button(page, 'Replay all 2').click();
    await page.locator('#confirm').getByRole('button', { name: 'Replay' }).click();
    await shows(page.locator('#letters .replay'), '2 dead again');
    await page.getByLabel('Only with').fill('nobody');
    await shows(page.locator('#tail .missed'), /None of/);
    pusher.fault = () => ({ kind: 'error', status: 400, code: 'Throttling' });
    await pusher.post(...Array.from({ length: 50 }, (_, n) => says(`${n}`)));
    await shows(page.locator('#health'), '1 topic throttled');
    await shows(page.locator('#sources'), /not acknowledged|unacknowledged|hole/);
    await assertAccessible(page, 'throttled');
    await pusher.daemon.stop();
    await page.getByText('Connection lost', { exact: true }).waitFor();
    await assertAccessible(page, 'old');
  });

  it('the login is readable on a phone and at 400 %', async () => {
    await pusher.start(`token = "${TOKEN}"`);
    const page = await pusher.open({ bypassCSP: true, viewport: { width: 320, height: 225 } });
    await page.getByLabel(/^Token/).waitFor();
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme });
      assert.deepEqual(
        [await page.evaluate(SIDEWAYS), await page.evaluate(FAINT), await violationsOf(page)],
        [[], [], []],
      );
    }
  });

  it('the console shows selections under forced colours', async () => {
    await pusher.start();
    const page = await pusher.open({ forcedColors: 'active' });
    await hasRows(page, '#topics', 3);
    await page.getByText('15 min').click();
    const ground = (which: string) =>
      page.evaluate(`getComputedStyle(document.querySelector('.choice ${which} + span')).backgroundColor`);
    assert.notEqual(await ground(':checked'), await ground(':not(:checked)'));
  });
});

/** The names of all visible controls; of radio buttons only the selected one. */
const CONTROLS = `[...document.querySelectorAll('main :is(a[href], button, input, select, [tabindex="0"])')]
  .filter((e) => e.checkVisibility() && !e.disabled && (e.type !== 'radio' || e.checked))
  .map((e) => e.localName + ' ' + (e.ariaLabel || e.name || e.textContent.trim().slice(0, 20)))`;

/** The focused element, whether it is in view, and whether it or its label has an outline. */
const FOCUS = `(() => {
  const e = document.activeElement;
  const { top, bottom } = e.getBoundingClientRect();
  const outlined = [e, e.nextElementSibling].some((each) => each && getComputedStyle(each).outlineStyle !== 'none');
  const bar = document.querySelector('.bar').getBoundingClientRect();
  const inside = e.closest('dialog') || (bottom > bar.bottom && top < innerHeight);
  const name = e.localName + ' ' + (e.ariaLabel || e.name || e.textContent.trim().slice(0, 20));
  return { name, seen: outlined && Boolean(inside) };
})()`;

/** Elements that overflow sideways: the page, or parts without a scroll bar of their own. */
const SIDEWAYS = `[document.documentElement, ...document.querySelectorAll('main, section, table, dialog[open], dialog[open] *, form')]
  .filter((e) => e.checkVisibility() && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline')
  .map((e) => e.localName + '#' + e.id + ' ' + e.scrollWidth + ' > ' + e.clientWidth)`;

/** Texts with a contrast below 4.5 to 1 (WCAG 2.2, 1.4.3), except in disabled controls. */
const FAINT = `(() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = channels(colour).slice(0, 3).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if ((channels(colour)[3] ?? 1) === 1) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const faint = [];
  for (const element of document.body.querySelectorAll('*')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== '');
    if (!own || !element.checkVisibility() || element.closest(':disabled')) continue;
    const [a, b] = [luminance(getComputedStyle(element).color), luminance(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push(element.textContent.trim().slice(0, 40) + ' ' + ratio.toFixed(2));
  }
  return faint;
})()`;
