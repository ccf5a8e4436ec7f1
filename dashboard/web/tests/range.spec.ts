// Which days, in which zone.
import type { Page } from '@playwright/test';
import { asked, card, cards, expect, fixed, log, open, shown, sql, test, value, ZONE } from './demo';

const ORG = `organization_id = 'org_acme'`;

/** What PostgreSQL takes each preset for, on today's date of a zone. */
const PRESETS: [string, string, string][] = [
  ['Today', 'd', 'd'],
  ['Last 7 days', 'd - 6', 'd'],
  ['Last 30 days', 'd - 29', 'd'],
  ['Last 90 days', 'd - 89', 'd'],
  ['This week', `date_trunc('week', d)`, 'd'],
  ['Last week', `date_trunc('week', d) - interval '7 days'`, `date_trunc('week', d) - interval '1 day'`],
  ['This month', `date_trunc('month', d)`, 'd'],
  ['Last month', `date_trunc('month', d) - interval '1 month'`, `date_trunc('month', d) - interval '1 day'`],
  ['This quarter', `date_trunc('quarter', d)`, 'd'],
  ['Last quarter', `date_trunc('quarter', d) - interval '3 months'`, `date_trunc('quarter', d) - interval '1 day'`],
  ['This year', `date_trunc('year', d)`, 'd'],
  ['Last year', `date_trunc('year', d) - interval '1 year'`, `date_trunc('year', d) - interval '1 day'`],
];

const picker = (page: Page) => page.locator('details.picker');

test('every preset', async ({ page }) => {
  await open(page, 'usr_ana', `/o/org_acme?tz=${encodeURIComponent(ZONE)}`);
  for (const [name, from, to] of PRESETS) {
    const [[a, b]] = sql(`SELECT (${from})::date, (${to})::date FROM (SELECT (now() AT TIME ZONE '${ZONE}')::date AS d) x`);
    await picker(page).locator('summary').click();
    await picker(page).getByRole('button', { name, exact: true }).click();
    await expect(picker(page).locator('summary')).toContainText(name);
    await expect(picker(page).locator('.dates')).toHaveText(a === b ? a : `${a} – ${b}`);
    await shown(page);
    const wanted = log(ORG, { from: a, to: b });
    if (wanted[1] === '0') await expect(page.getByText('Nothing was used')).toBeVisible();
    else expect(await cards(page), name).toEqual(wanted);
  }
});

test('dates of one’s own, across a change of the clocks', async ({ page }) => {
  await open(page, 'usr_ana', `/o/org_acme${fixed()}`);
  // The last Sunday of March or October that the demo's year has: 23 or 25 hours.
  const sunday = value(`SELECT max(day)::date FROM generate_series((now() - interval '360 days')::date, (now() - interval '3 days')::date, interval '1 day') day
    WHERE extract(isodow FROM day) = 7 AND extract(month FROM day) IN (3, 10) AND extract(day FROM day) > 24`);
  const [[from, to]] = sql(`SELECT date '${sunday}' - 1, date '${sunday}' + 1`);
  await picker(page).locator('summary').click();
  await picker(page).getByLabel('From').fill(from);
  await picker(page).getByLabel('To').fill(to);
  await picker(page).getByRole('button', { name: 'Show' }).click();
  await shown(page);
  await expect(page).toHaveURL(new RegExp(`from=${from}&to=${to}|to=${to}.*from=${from}|from=${from}.*to=${to}`));
  expect(await cards(page)).toEqual(log(ORG, { from, to }));
  const hours = value(`SELECT extract(epoch FROM ('${sunday}'::date + 1)::timestamp AT TIME ZONE '${ZONE}' - '${sunday}'::timestamp AT TIME ZONE '${ZONE}') / 3600`);
  expect([23, 25]).toContain(Number(hours));
  await page.goto(`/o/org_acme?from=${sunday}&to=${sunday}&tz=${encodeURIComponent(ZONE)}`);
  await shown(page);
  expect(await cards(page)).toEqual(log(ORG, { from: sunday, to: sunday }));
  // From after To cannot be asked for.
  await picker(page).locator('summary').click();
  await picker(page).getByLabel('From').fill(to);
  await picker(page).getByLabel('To').fill(from);
  await expect(picker(page).getByRole('button', { name: 'Show' })).toBeDisabled();
});

test('another zone, with half an hour too', async ({ page }) => {
  const day = sql(`SELECT (now() AT TIME ZONE 'UTC')::date - 20`)[0][0];
  await open(page, 'usr_ana', `/o/org_acme?from=${day}&to=${day}&tz=${encodeURIComponent(ZONE)}`);
  const seen = new Set<string>();
  // Chromium calls it Calcutta still.
  for (const zone of ['Asia/Calcutta', 'America/Los_Angeles', 'Australia/Lord_Howe', 'UTC', ZONE]) {
    await page.getByLabel('Time zone').selectOption(zone);
    await shown(page);
    await expect(page).toHaveURL(new RegExp(`tz=${encodeURIComponent(zone)}`));
    const wanted = log(ORG, { from: day, to: day }, zone);
    expect(await cards(page), zone).toEqual(wanted);
    seen.add(wanted[0]);
  }
  expect(seen.size).toBeGreaterThan(3);
});

test('days and zone go along to other pages', async ({ page }) => {
  await open(page, 'usr_ana', `/o/org_acme${fixed('&metric=tokens')}`);
  const want = new URL(page.url()).searchParams;
  for (const name of ['What changed', 'Members', 'API keys', 'My usage', 'Lab', 'Organization']) {
    await page.getByRole('navigation').getByRole('link', { name: name === 'Lab' ? 'Lab' : new RegExp(`^${name}`) }).click();
    await shown(page);
    const have = new URL(page.url()).searchParams;
    for (const key of ['from', 'to', 'tz', 'metric']) expect(have.get(key), `${name} ${key}`).toBe(want.get(key));
  }
});

test('a new range asks once for what it shows', async ({ page }) => {
  await open(page, 'usr_ana', `/o/org_acme${fixed()}`);
  const requests = await asked(page, async () => {
    await picker(page).locator('summary').click();
    await picker(page).getByRole('button', { name: 'Last 7 days' }).click();
    await shown(page);
  });
  expect(requests.length, requests.join('\n')).toBe(1);
  expect(Number(await card(page, 'requests'))).toBeGreaterThan(0);
});
