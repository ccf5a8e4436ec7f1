// Where pages are, whatever organizations are called, and what an odd URL shows.
import { expect, fixed, open, shown, signIn, sql, test } from './demo';

/** Endpoints, their beginnings, files, pages, and what every object of JavaScript has. */
const TAKEN = ['projects', 'access', 'api-keys', 'health', 'openapi.json', 'analytics', 'assets', 'demo', 'icon.svg', 'o', '.', '..', '__proto__'];
const quoted = TAKEN.map((id) => `'${id}'`).join();

test('organizations that are called as an endpoint is', async ({ page }) => {
  sql(`INSERT INTO llm.organization (id, name, plan) SELECT id, 'Zz ' || id, 'enterprise' FROM unnest(ARRAY[${quoted}]) id;
    INSERT INTO llm.membership (organization_id, user_id, role) SELECT id, 'usr_ana', 'owner' FROM unnest(ARRAY[${quoted}]) id`);
  try {
    await open(page, 'usr_ana', `/o/org_acme${fixed()}`);
    for (const id of TAKEN) {
      await page.getByLabel('Organization').selectOption(id);
      await expect(page.getByRole('heading', { name: 'Nothing was used' })).toBeVisible();
      await page.getByRole('navigation').getByRole('link', { name: 'API keys' }).click();
      await expect(page.getByRole('heading', { name: 'No API keys' })).toBeVisible();
      await page.getByRole('navigation').getByRole('link', { name: 'Organization' }).click();
      // As whoever gets a link comes to it.
      await page.reload();
      await expect(page.getByLabel('Organization')).toHaveValue(id);
      await expect(page.getByRole('heading', { name: 'Nothing was used' })).toBeVisible();
    }
  } finally {
    sql(`DELETE FROM llm.membership WHERE organization_id IN (${quoted}); DELETE FROM llm.organization WHERE id IN (${quoted})`);
  }
});

test('links of before, when pages were at the root', async ({ page }) => {
  await signIn(page, 'usr_ana');
  for (const path of ['/org_acme', '/org_acme/keys', '/org_acme/members/usr_chioma']) {
    await page.goto(path + fixed('&metric=tokens'));
    await shown(page);
    expect(new URL(page.url()).pathname).toBe(`/o${path}`);
    expect(new URL(page.url()).search).toBe(fixed('&metric=tokens'));
    await expect(page.getByLabel('Organization')).toHaveValue('org_acme');
  }
  // A path that is no page leads to the first one.
  await page.goto('/');
  await page.goto(`${new URL(page.url()).origin}//evil.example/x`);
  await expect(page).toHaveURL(/\/o\/org_acme\?/);
});

test('what every object has is no range, measure or reason', async ({ page }) => {
  await signIn(page, 'usr_ana');
  for (const name of ['constructor', '__proto__', 'toString']) {
    await page.goto(`/o/org_acme?tz=UTC&range=${name}&metric=${name}&group=${name}`);
    await shown(page);
    await expect(page.locator('details.picker summary')).toContainText('Last 30 days');
    await expect(page.getByRole('heading', { name: 'Cost by model', exact: true })).toBeVisible();
  }
  await page.route('**/analytics/me?*', (route) => route.fulfill({ status: 403, json: { error: { code: 'constructor', message: 'refused', hint: null } } }));
  await page.goto('/o/org_acme/me?tz=UTC&range=last-30');
  await expect(page.getByRole('heading', { name: 'That did not work' })).toBeVisible();
});
