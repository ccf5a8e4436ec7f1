// The demo, its database, and what every test does on a page.
import { execFileSync } from 'node:child_process';
import { test as base, expect, type Locator, type Page } from '@playwright/test';

export { expect };

/** Rows of a query on the demo's database, as a superuser. */
export function sql(query: string): string[][] {
  const psql = `${process.env.PG_BIN}/psql`;
  const text = execFileSync(psql, ['-XAtq', '-v', 'ON_ERROR_STOP=1', '-F', '\x1f', '-R', '\x1e', '-d', 'demo', '-c', query], { encoding: 'utf8', maxBuffer: 1e8 });
  return text === '' ? [] : text.replace(/\n$/, '').split('\x1e').map((row) => row.split('\x1f'));
}
export const value = (query: string) => sql(query)[0][0];

/** Every page asks its own server only, and none has an error in the console. */
export const test = base.extend<{ watched: string[] }>({
  watched: [
    async ({ page, baseURL }, use) => {
      const errors: string[] = [];
      page.on('request', (request) => {
        const where = request.url();
        if (!where.startsWith(`${baseURL}/`) && !where.startsWith('data:') && !where.startsWith('blob:')) errors.push(`asks ${where}`);
      });
      page.on('pageerror', (error) => errors.push(String(error)));
      page.on('console', (message) => {
        // what the browser says of an answer that is no 200 is not the page's error
        if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) errors.push(message.text());
      });
      await use(errors);
      expect(errors).toEqual([]);
    },
    { auto: true },
  ],
});

export const ZONE = 'Europe/Berlin';
/** A range that stays the same whenever the tests run. */
export const FIXED = days(-40, -11);

/** Local days of Berlin, so many days from today. */
export function days(from: number, to: number) {
  const [[a, b]] = sql(`SELECT today + ${from}, today + ${to} FROM (SELECT (now() AT TIME ZONE '${ZONE}')::date AS today) x`);
  return { from: a, to: b };
}
export const fixed = (more = '') => `?from=${FIXED.from}&to=${FIXED.to}&tz=${encodeURIComponent(ZONE)}${more}`;

export async function signIn(page: Page, user: string) {
  const response = await page.request.post(`/demo/sign-in?user=${user}`);
  expect(response.status()).toBe(200);
}

/** Waits until the page shows what the URL asks for. */
export async function shown(page: Page) {
  await expect(page.locator('main h1')).toBeVisible();
  await expect(page.locator('main .loading')).toHaveCount(0);
  await expect(page.locator('main [aria-busy="true"]')).toHaveCount(0);
}

export async function open(page: Page, user: string, path: string) {
  await signIn(page, user);
  await page.goto(path);
  await shown(page);
}

export const card = async (page: Page, name: string) => (await page.locator(`main [data-card="${name}"] data`).getAttribute('value'))!;
export const cards = async (page: Page) => [await card(page, 'cost'), await card(page, 'requests'), await card(page, 'tokens')];

/** Cells of a table: the exact value of a number, else the text. */
export async function cells(table: Locator): Promise<string[][]> {
  return table.locator('tbody tr').evaluateAll((rows) =>
    rows.map((row) => [...row.querySelectorAll('td')].map((cell) => cell.querySelector('data')?.getAttribute('value') ?? cell.textContent!.trim())),
  );
}
export const region = (page: Page, name: string | RegExp) => page.getByRole('region', { name });
export const button = (page: Page, group: string, name: string) => page.getByRole('group', { name: group }).getByRole('button', { name, exact: true });

/** What the log itself says: cost, requests, tokens. */
export function log(filter: string, range = FIXED, zone = ZONE): string[] {
  return sql(`SELECT trim_scale(coalesce(sum(cost::text::numeric), 0)), count(*), coalesce(sum(coalesce(total_tokens, prompt_tokens + completion_tokens)), 0)
    FROM public.log WHERE ${filter}
    AND created_at >= ('${range.from}'::timestamp AT TIME ZONE '${zone}') AT TIME ZONE 'UTC'
    AND created_at < (('${range.to}'::date + 1)::timestamp AT TIME ZONE '${zone}') AT TIME ZONE 'UTC'`)[0];
}

/** The requests that pages send while something is done. */
export async function asked(page: Page, what: () => Promise<void>): Promise<string[]> {
  const found: string[] = [];
  const listener = (request: { url: () => string }) => {
    // Chromium asks for the icon whenever it likes.
    if (!request.url().endsWith('/icon.svg')) found.push(request.url());
  };
  page.on('request', listener);
  await what();
  await page.waitForTimeout(150);
  page.off('request', listener);
  return found;
}
