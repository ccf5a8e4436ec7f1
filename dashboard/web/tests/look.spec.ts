// Dark, small, by keyboard, for a screen reader; while it loads, when there is nothing, when it fails.
import AxeBuilder from '@axe-core/playwright';
import { expect, fixed, open, region, shown, test } from './demo';

const PAGES: [string, string, string][] = [
  ['organization', 'usr_ana', '/o/org_acme'],
  ['changes', 'usr_ana', '/o/org_acme/changes'],
  ['members', 'usr_ana', '/o/org_acme/members'],
  ['member', 'usr_ana', '/o/org_acme/members/usr_chioma'],
  ['me', 'usr_dmitri', '/o/org_acme/me'],
  ['keys', 'usr_ana', '/o/org_acme/keys'],
  ['key', 'usr_ana', '/o/org_acme/keys/key_acme_live'],
  ['project', 'usr_ana', '/o/org_acme/projects/prj_acme_code'],
  ['upgrade', 'usr_indira', '/o/org_initech'],
  ['role', 'usr_dmitri', '/o/org_acme'],
];

for (const scheme of ['light', 'dark'] as const) {
  test(`axe finds nothing serious, ${scheme}`, async ({ page }) => {
    await page.emulateMedia({ colorScheme: scheme });
    for (const [name, user, path] of PAGES) {
      await open(page, user, path + fixed());
      await expect(page.locator('html')).toHaveAttribute('data-theme', scheme);
      const { violations } = await new AxeBuilder({ page }).analyze();
      const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
      expect(serious.map(({ id, nodes }) => `${name}: ${id} ${nodes.map((node) => node.html).join(' ')}`)).toEqual([]);
    }
    // With the range picker open.
    await open(page, 'usr_ana', `/o/org_acme${fixed()}`);
    await page.locator('details.picker summary').click();
    const { violations } = await new AxeBuilder({ page }).analyze();
    expect(violations.filter(({ impact }) => impact === 'serious' || impact === 'critical').map(({ id }) => id)).toEqual([]);
  });
}

test('dark as the system has it, or as one likes', async ({ page }) => {
  await page.emulateMedia({ colorScheme: 'dark' });
  await open(page, 'usr_ana', `/o/org_acme${fixed()}`);
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await ground();
  const label = () => page.getByRole('img').first().locator('text').first().getAttribute('fill');
  const darkLabel = await label();
  await page.getByRole('button', { name: 'Light colors' }).click();
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'light');
  expect(await ground()).not.toBe(dark);
  await expect.poll(label).not.toBe(darkLabel);
  await page.reload();
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'light');
  await page.emulateMedia({ colorScheme: 'light' });
});

test('as wide as a telephone', async ({ page }) => {
  await page.setViewportSize({ width: 390, height: 844 });
  for (const [name, user, path] of PAGES) {
    await open(page, user, path + fixed());
    const [inside, outside] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
    expect(inside, name).toBeLessThanOrEqual(outside);
    for (const chart of await page.getByRole('img').all()) expect((await chart.boundingBox())!.width, name).toBeGreaterThan(250);
  }
  await page.locator('details.picker summary').click();
  const box = (await page.locator('.popover').boundingBox())!;
  expect(box.x).toBeGreaterThanOrEqual(0);
  expect(box.x + box.width).toBeLessThanOrEqual(390);
});

test('by keyboard alone', async ({ page }) => {
  await open(page, 'usr_ana', `/o/org_acme/members${fixed()}`);
  await page.keyboard.press('Tab');
  await expect(page.locator('.skip')).toBeFocused();
  await page.keyboard.press('Enter');
  await expect(page.locator('main')).toBeFocused();
  const head = region(page, 'Members').getByRole('columnheader', { name: 'Tokens' });
  await head.getByRole('button').focus();
  await page.keyboard.press('Enter');
  await expect(head).toHaveAttribute('aria-sort', 'descending');
  await page.locator('details.picker summary').focus();
  await page.keyboard.press('Enter');
  await expect(page.locator('.popover')).toBeVisible();
  await page.keyboard.press('Escape');
  await expect(page.locator('.popover')).toBeHidden();
  await expect(page.locator('details.picker summary')).toBeFocused();
  await page.keyboard.press('Enter');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await expect(page).toHaveURL(/range=last-7/);
  await shown(page);
  // Every control shows that it has the focus.
  for (const control of await page.locator('button:visible, select:visible, summary:visible, main a:visible').all()) {
    await control.focus();
    await page.keyboard.press('Shift');
    expect(await control.evaluate((element) => element === document.activeElement)).toBe(true);
  }
});

test('while it loads, when there is nothing, when it fails', async ({ page }) => {
  let go!: () => void;
  const waiting = new Promise<void>((resolve) => (go = resolve));
  await page.route('**/analytics/activity**', async (route) => {
    await waiting;
    await route.continue();
  });
  await open(page, 'usr_ana', '/o/org_acme/keys').catch(() => undefined);
  await page.goto(`/o/org_acme${fixed()}`);
  await expect(page.locator('main [role="status"]')).toHaveText('Loading …');
  go();
  await shown(page);
  await page.unroute('**/analytics/activity**');

  await page.goto('/o/org_acme?from=2001-01-01&to=2001-01-02&tz=UTC');
  await shown(page);
  await expect(page.getByRole('heading', { name: 'Nothing was used' })).toBeVisible();

  await page.route('**/analytics/activity**', (route) => route.abort());
  await page.goto(`/o/org_acme${fixed()}`);
  await expect(page.getByRole('alert')).toContainText('cannot be reached');
  await page.unroute('**/analytics/activity**');
  await page.getByRole('button', { name: 'Try again' }).click();
  await shown(page);
  await expect(page.locator('[data-card="cost"]')).toBeVisible();

  await page.route('**/analytics/activity**', (route) =>
    route.fulfill({ status: 503, json: { error: { code: 'unavailable', message: 'the database cannot be reached just now', hint: null } } }),
  );
  await page.goto(`/o/org_acme${fixed()}`);
  await expect(page.getByRole('alert')).toContainText('the database cannot be reached just now');
  await page.unroute('**/analytics/activity**');
  // A zone that the server does not know says so, and is mended by the choice of another.
  await page.goto('/o/org_acme?tz=Mars/Olympus');
  await expect(page.getByRole('alert')).toBeVisible();
  await page.getByLabel('Time zone').selectOption('UTC');
  await shown(page);
  await expect(page.locator('[data-card="cost"]')).toBeVisible();
});

test('pictures for the documents', async ({ page }) => {
  test.skip(!process.env.SCREENSHOTS, 'SCREENSHOTS=1 renews docs/img');
  for (const [name, user, path] of PAGES) {
    await page.emulateMedia({ colorScheme: 'light' });
    await open(page, user, `${path}?tz=Europe/Berlin&range=last-30`);
    await page.mouse.move(0, 0);
    await page.screenshot({ path: `../../docs/img/${name}.png`, fullPage: true });
  }
  await page.emulateMedia({ colorScheme: 'dark' });
  await open(page, 'usr_ana', '/o/org_acme?tz=Europe/Berlin&range=last-90&group=application');
  await page.screenshot({ path: '../../docs/img/organization-dark.png', fullPage: true });
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 390, height: 844 });
  await open(page, 'usr_ana', '/o/org_acme?tz=Europe/Berlin&range=last-30');
  await page.screenshot({ path: '../../docs/img/organization-phone.png' });
});
