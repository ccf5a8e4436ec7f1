// What stands in place of what one may not see, for each role and plan.
import { cards, cells, expect, fixed, log, open, region, shown, sql, test } from './demo';

const GATED = ['', '/changes', '/members'];

test('a developer sees what is their own', async ({ page }) => {
  for (const path of [...GATED, '/members/usr_emma']) {
    await open(page, 'usr_dmitri', `/o/org_acme${path}${fixed()}`);
    await expect(page.locator('[data-reason="role_required"]')).toBeVisible();
    await expect(page.locator('main data')).toHaveCount(0);
  }
  await open(page, 'usr_dmitri', `/o/org_acme/me${fixed()}`);
  await expect(page.locator('main h1')).toContainText('Dmitri Ivanov');
  expect(await cards(page)).toEqual(log(`api_key_id IN (SELECT id FROM llm.api_key WHERE user_id = 'usr_dmitri')`));
  await open(page, 'usr_dmitri', `/o/org_acme/keys${fixed()}`);
  expect((await cells(region(page, 'API keys'))).map((row) => row[0]).sort()).toEqual(sql(`SELECT label FROM llm.api_key WHERE user_id = 'usr_dmitri'`).map(([label]) => label).sort());
  // Of a project, the usage of their own keys.
  await open(page, 'usr_dmitri', `/o/org_acme/projects/prj_acme_code${fixed()}`);
  expect(await cards(page)).toEqual(log(`project_id = 'prj_acme_code' AND api_key_id IN (SELECT id FROM llm.api_key WHERE user_id = 'usr_dmitri')`));
  // Somebody else's key.
  await page.goto(`/o/org_acme/keys/key_acme_emma${fixed()}`);
  await expect(page.locator('[data-reason="not_your_key"]')).toBeVisible();
  await expect(page.locator('main data')).toHaveCount(0);
});

test('whoever comes without a page gets the first that is theirs', async ({ page }) => {
  for (const [user, url, title] of [
    ['usr_dmitri', /org_acme\/me/, /Dmitri Ivanov/],
    ['usr_jay', /org_initech\/me/, /^jay@initech.example/],
    ['usr_ben', /org_acme\?/, /^Organization/],
    ['usr_indira', /org_initech\?/, /^Organization/],
  ] as const) {
    await open(page, user, '/');
    await expect(page).toHaveURL(url);
    await expect(page).toHaveTitle(title);
    await expect(page).toHaveTitle(/ · LLM analytics$/);
  }
});

test('an owner on the free plan gets an upgrade card', async ({ page }) => {
  for (const path of [...GATED, '/members/usr_jay']) {
    await open(page, 'usr_indira', `/o/org_initech${path}${fixed()}`);
    await expect(page.locator('.upgrade[data-reason="plan_required"]')).toBeVisible();
    await expect(page.locator('main data')).toHaveCount(0);
  }
  await open(page, 'usr_indira', `/o/org_initech/projects/prj_initech_app${fixed()}`);
  expect(await cards(page)).toEqual(log(`project_id = 'prj_initech_app'`));
  await open(page, 'usr_indira', `/o/org_initech/keys/key_initech_jay${fixed()}`);
  expect(await cards(page)).toEqual(log(`api_key_id = 'key_initech_jay'`));
});

test('a developer on the free plan is told of the role first', async ({ page }) => {
  for (const path of GATED) {
    await open(page, 'usr_jay', `/o/org_initech${path}${fixed()}`);
    await expect(page.locator('[data-reason="role_required"]')).toBeVisible();
  }
});

test('an admin of an enterprise sees all', async ({ page }) => {
  for (const path of GATED) {
    await open(page, 'usr_ben', `/o/org_acme${path}${fixed()}`);
    await expect(page.locator('main [data-reason]')).toHaveCount(0);
    expect(await page.locator('main data').count()).toBeGreaterThan(3);
  }
});

test('strangers, and ids that are not there', async ({ page }) => {
  for (const path of ['', '/members', '/me', '/keys', '/projects/prj_globex_it', '/keys/key_globex_it', '/members/usr_hugo']) {
    await open(page, 'usr_ben', `/o/org_globex${path}${fixed()}`);
    await expect(page.locator('[data-reason="not_member"]').first()).toBeVisible();
    await expect(page.locator('main data')).toHaveCount(0);
    await expect(page.locator('body')).not.toContainText('Hugo');
  }
  for (const path of ['projects/prj_globex_it', 'keys/key_globex_it', 'members/usr_hugo']) {
    await open(page, 'usr_ben', `/o/org_acme/${path}${fixed()}`);
    await expect(page.getByRole('heading', { name: 'Not found' }).first()).toBeVisible();
  }
  await open(page, 'usr_ben', '/o/org_acme/no/such/page');
  await expect(page.getByRole('heading', { name: 'Not found' })).toBeVisible();
});

test('nobody yet: the demo lets one choose, and switch', async ({ page }) => {
  await page.goto(`/o/org_acme${fixed()}`);
  await expect(page.locator('[data-reason="no_identity"]')).toBeVisible();
  await page.getByLabel('Demo: you are').selectOption('usr_indira');
  await shown(page);
  await expect(page).toHaveURL(/org_initech/);
  await expect(page.getByRole('navigation').locator('.badge')).toHaveText(['Enterprise', 'Enterprise', 'Enterprise']);
  await page.getByLabel('Demo: you are').selectOption('usr_ana');
  await expect(page).toHaveURL(/org_acme/);
  await shown(page);
  // Ana belongs to more than one.
  await page.getByLabel('Organization').selectOption('org_globex');
  await shown(page);
  await expect(page.locator('[data-reason="role_required"]')).toBeVisible();
});
