// Every page: what it shows is what the log says.
import { readFileSync } from 'node:fs';
import { asked, button, card, cards, cells, days, expect, fixed, FIXED, log, open, region, shown, sql, test, value, ZONE } from './demo';

const IN_RANGE = `'${FIXED.from}', '${FIXED.to}', '${ZONE}'`;

test('one comes to one’s first organization, and a copied link shows the same page', async ({ page, browser, baseURL }) => {
  await open(page, 'usr_ana', '/');
  await expect(page).toHaveURL(/\/org_acme\?/);
  const url = new URL(page.url());
  expect(url.searchParams.get('tz')).toBe(ZONE);
  expect(url.searchParams.get('range')).toBe('last-30');
  expect(await cards(page)).toEqual(log(`organization_id = 'org_acme'`, days(-29, 0)));
  // Somebody in another zone opens the link.
  const context = await browser.newContext({ baseURL, timezoneId: 'America/Los_Angeles' });
  const other = await context.newPage();
  await open(other, 'usr_ben', page.url());
  expect(await cards(other)).toEqual(await cards(page));
  await context.close();
  // Back leaves, it does not come to the same page again.
  await page.getByRole('link', { name: 'API keys' }).click();
  await shown(page);
  await page.goBack();
  await expect(page).toHaveURL(url.href);
});

const GROUPS: [string, string, string][] = [
  ['Model', 'model', 'Model'],
  ['Project', 'project', 'Project'],
  ['API key', 'apiKey', 'API key'],
  ['Member', 'user', 'Member'],
  ['Provider', 'provider', 'Provider'],
  ['Application', 'application', 'Application'],
];

test('organization: every group, every measure', async ({ page }) => {
  await open(page, 'usr_ana', `/o/org_acme${fixed()}`);
  const total = log(`organization_id = 'org_acme'`);
  for (const [name, group, title] of GROUPS) {
    await button(page, 'Group by', name).click();
    await shown(page);
    await expect(page).toHaveURL(new RegExp(`group=${group}`));
    expect(await cards(page)).toEqual(total);
    const table = await cells(region(page, `${title}, all measures`));
    const wanted = sql(`SELECT label, trim_scale(sum(cost)), sum(request_count), sum(total_tokens) FROM llm.activity('org_acme', '${group}', ${IN_RANGE})
      WHERE label IS NOT NULL GROUP BY key, label HAVING sum(request_count) > 0 ORDER BY sum(cost) DESC, label`);
    expect(table.filter(([label]) => label !== 'Other').map((row) => row.slice(0, 4))).toEqual(wanted.slice(0, 10));
    expect(table.length).toBe(Math.min(wanted.length, 11));
    const bars = page.getByRole('img', { name: new RegExp(`^Cost by ${name}$`, 'i') });
    await expect(bars).toBeVisible();
    expect(await bars.locator('path').count()).toBeGreaterThanOrEqual(Math.min(wanted.length, 10));
  }
  for (const [metric, at] of [['Requests', 1], ['Tokens', 2], ['Cost', 0]] as [string, number][]) {
    const requests = await asked(page, () => button(page, 'Measure', metric).click());
    expect(requests).toEqual([]);
    await expect(page.getByRole('heading', { name: `${metric} by application`, exact: true })).toBeVisible();
    await expect(page).toHaveURL(new RegExp(`metric=${metric.toLowerCase()}`));
    expect((await cards(page))[at]).toBe(total[at]);
  }
});

test('organization: a legend that toggles, a tooltip with exact days', async ({ page }) => {
  await open(page, 'usr_ana', `/o/org_acme${fixed('&group=project')}`);
  const areas = page.getByRole('img', { name: /day by day/ });
  const before = await areas.locator('path[fill]').count();
  const first = page.locator('.legend button').first();
  await first.click();
  await expect(first).toHaveAttribute('aria-pressed', 'false');
  await expect.poll(() => areas.locator('path[fill]').count()).toBeLessThan(before);
  await first.click();
  await expect(first).toHaveAttribute('aria-pressed', 'true');
  await expect.poll(() => areas.locator('path[fill]').count()).toBe(before);
  const box = (await areas.boundingBox())!;
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  const tip = areas.locator('div').filter({ hasText: 'all:' }).last();
  await expect(tip).toBeVisible();
  const text = (await tip.textContent())!;
  const day = /\d{4}-\d{2}-\d{2}/.exec(text)![0];
  const cost = Number(log(`organization_id = 'org_acme'`, { from: day, to: day })[0]);
  expect(text).toContain(`all: ${new Intl.NumberFormat('en-US', { style: 'currency', currency: 'USD' }).format(cost)}`);
});

test('organization: a bar and a link open the page of what they stand for', async ({ page }) => {
  for (const [group, place, title] of [['project', 'projects', 'Project'], ['apiKey', 'keys', 'API key'], ['user', 'members', 'Member']]) {
    const path = `/o/org_acme${fixed(`&group=${group}`)}`;
    await open(page, 'usr_ana', path);
    const [[key, label]] = sql(`SELECT key, label FROM llm.activity('org_acme', '${group}', ${IN_RANGE}) WHERE label IS NOT NULL GROUP BY key, label ORDER BY sum(cost) DESC LIMIT 1`);
    // The first bar, in its left part.
    const bars = (await page.getByRole('img', { name: /^Cost by (project|api key|member)$/i }).boundingBox())!;
    await page.mouse.click(bars.x + 260, bars.y + 18);
    await shown(page);
    await expect(page).toHaveURL(new RegExp(`/o/org_acme/${place}/${key}\\?.*from=${FIXED.from}`));
    await expect(page.locator('main h1')).toContainText(label);
    await page.goBack();
    await shown(page);
    await region(page, `${title}, all measures`).getByRole('link', { name: label, exact: true }).click();
    await shown(page);
    await expect(page).toHaveURL(new RegExp(`/o/org_acme/${place}/${key}\\?`));
  }
});

test('project: by model, as routed or by canonical name', async ({ page }) => {
  await open(page, 'usr_ben', `/o/org_acme/projects/prj_acme_api${fixed()}`);
  await expect(page.locator('main h1')).toHaveText('Production API');
  const total = log(`organization_id = 'org_acme' AND project_id = 'prj_acme_api'`);
  expect(await cards(page)).toEqual(total);
  const byModel = () => cells(region(page, 'Model, all measures'));
  const mapping = await byModel();
  expect(mapping.map((row) => row.slice(0, 4))).toEqual(
    sql(`SELECT used_model, trim_scale(sum(cost::text::numeric)) AS cost, count(*), sum(coalesce(total_tokens, prompt_tokens + completion_tokens)) FROM public.log
      WHERE project_id = 'prj_acme_api' AND created_at >= ('${FIXED.from}'::timestamp AT TIME ZONE '${ZONE}') AT TIME ZONE 'UTC'
      AND created_at < (('${FIXED.to}'::date + 1)::timestamp AT TIME ZONE '${ZONE}') AT TIME ZONE 'UTC' GROUP BY 1 ORDER BY sum(cost::text::numeric) DESC, 1`),
  );
  expect(mapping[0][0]).toContain('/');
  const requests = await asked(page, () => button(page, 'Models', 'Canonical').click());
  expect(requests).toEqual([]);
  const canonical = await byModel();
  expect(canonical[0][0]).not.toContain('/');
  await expect(page).toHaveURL(/models=canonical/);
  expect(await cards(page)).toEqual(total);
  for (const metric of ['Requests', 'Tokens', 'Cost']) {
    expect(await asked(page, () => button(page, 'Measure', metric).click())).toEqual([]);
    await expect(page.getByRole('heading', { name: `${metric} by model`, exact: true })).toBeVisible();
    await expect(page.getByRole('heading', { name: `${metric} by model over time` })).toBeVisible();
  }
  await expect(page.locator('main .chart')).toHaveCount(2);
});

test('API keys: the list, and the statistics of one', async ({ page }) => {
  await open(page, 'usr_ana', `/o/org_acme/keys${fixed()}`);
  const list = await cells(region(page, 'API keys'));
  expect(list.map((row) => row[0]).sort()).toEqual(sql(`SELECT label FROM llm.api_key k JOIN llm.project p ON p.id = k.project_id WHERE p.organization_id = 'org_acme'`).map(([label]) => label).sort());
  await page.getByRole('link', { name: 'View statistics of helpdesk' }).click();
  await shown(page);
  await expect(page).toHaveURL(/keys\/key_acme_helpdesk/);
  expect(await cards(page)).toEqual(log(`api_key_id = 'key_acme_helpdesk'`));
  const rate = JSON.parse(value(`SELECT llm.analytics_api_key('org_acme', 'key_acme_helpdesk', ${IN_RANGE})`)).summary.errorRate;
  expect(rate).toBeGreaterThan(0);
  expect(Number(await card(page, 'errors'))).toBe(rate);
  await expect(page.locator('main .chart')).toHaveCount(2);
  await page.getByRole('link', { name: 'API keys' }).last().click();
  await expect(page).toHaveURL(/org_acme\/keys\?/);
});

test('members: sorted by every column, and the page of one', async ({ page }) => {
  await open(page, 'usr_ana', `/o/org_acme/members${fixed()}`);
  const table = region(page, 'Members');
  const { members } = JSON.parse(value(`SELECT llm.analytics_members('org_acme', ${IN_RANGE})`)) as { members: Record<string, number>[] };
  const wanted = members.map((m) => [m.cost, m.requestCount, m.totalTokens, m.errorRate, m.apiKeyCount]);
  const rows = await cells(table);
  expect(rows.map((row) => row.slice(2).map(Number)).sort()).toEqual(wanted.sort());
  for (const [column, at] of [['Cost', 2], ['Requests', 3], ['Tokens', 4], ['Error rate', 5], ['API keys', 6]] as [string, number][]) {
    const head = table.getByRole('columnheader', { name: column });
    for (const order of ['descending', 'ascending']) {
      await head.getByRole('button').click();
      await expect(head).toHaveAttribute('aria-sort', order);
      const numbers = (await cells(table)).map((row) => Number(row[at]));
      expect(numbers).toEqual([...numbers].sort((a, b) => (order === 'descending' ? b - a : a - b)));
    }
  }
  await table.getByRole('link', { name: 'Chioma Obi' }).click();
  await shown(page);
  await expect(page.locator('main h1')).toContainText('Chioma Obi');
  expect(await cards(page)).toEqual(log(`api_key_id IN (SELECT id FROM llm.api_key WHERE user_id = 'usr_chioma')`));
  const answer = JSON.parse(value(`SELECT llm.analytics_member('org_acme', 'usr_chioma', ${IN_RANGE})`));
  for (const what of ['model', 'provider', 'application'] as const) {
    await expect(page.locator(`[data-card="most-used-${what}"] dd`)).toHaveText(answer.mostUsed[what]);
  }
  for (const [title, entries] of [['Provider', answer.topProviders], ['Application', answer.topApplications]] as [string, { label: string }[]][]) {
    expect((await cells(region(page, `${title}, all measures`))).map((row) => row[0])).toEqual(entries.map((entry) => entry.label));
  }
  await expect(page.locator('main .chart')).toHaveCount(2);
});

test('what changed, in words and parts', async ({ page }) => {
  await open(page, 'usr_ana', `/o/org_acme/changes${fixed()}`);
  const answer = JSON.parse(value(`SELECT llm.analytics_drivers('org_acme', ${IN_RANGE})`));
  const money = new Intl.NumberFormat('en-US', { style: 'currency', currency: 'USD', signDisplay: 'exceptZero' });
  await expect(page.locator('[data-words]')).toContainText(money.format(answer.change.cost));
  expect(Number(await page.locator('[data-words] data').nth(1).getAttribute('value'))).toBe(answer.after.cost);
  for (const [name, dimension] of [['Model', 'model'], ['Project', 'project'], ['API key', 'apiKey'], ['Member', 'user'], ['Provider', 'provider'], ['Application', 'application']]) {
    await button(page, 'Explained by', name).click();
    const drivers = answer.drivers[dimension] as { label: string; change: number; volume: number; price: number; costBefore: number; costAfter: number }[];
    const rows = await cells(region(page, `Changes by ${name.toLowerCase()}`));
    expect(rows.map((row) => [row[0], ...row.slice(1).map(Number)])).toEqual(drivers.map((d) => [d.label, d.change, d.volume, d.price, d.costBefore, d.costAfter]));
    const sentence = page.locator('.words li').first();
    await expect(sentence).toContainText(`${drivers[0].label} drove ${money.format(drivers[0].change)} of ${money.format(answer.change.cost)}`);
  }
});

test('CSV of every table', async ({ page }) => {
  const saved = async (panel: number) => {
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'CSV' }).nth(panel).click()]);
    return readFileSync((await download.path())!, 'utf8').trimEnd().split('\r\n').map((line) => line.split(','));
  };
  await open(page, 'usr_ana', `/o/org_acme${fixed('&group=project')}`);
  const [head, ...rows] = await saved(0);
  const [date, key, cost] = ['date', 'key', 'cost'].map((name) => head.indexOf(name));
  const some = rows.filter((row) => row[key] === 'prj_acme_code').slice(0, 5);
  expect(some.length).toBe(5);
  for (const row of some) {
    expect(row[cost]).toBe(log(`project_id = 'prj_acme_code'`, { from: row[date], to: row[date] })[0]);
  }
  for (const path of ['members', 'members/usr_ben', 'me', 'keys', 'keys/key_acme_live', 'projects/prj_acme_lab', 'changes']) {
    await page.goto(`/o/org_acme/${path}${fixed()}`);
    await shown(page);
    expect((await saved(0)).length, path).toBeGreaterThan(1);
  }
});

test('ids that hold anything', async ({ page }) => {
  const odd = 'odd/%25 &?#é\'"<b>';
  const quoted = `'${odd.replaceAll("'", "''")}'`;
  sql(`INSERT INTO llm.organization (id, name, plan) VALUES (${quoted}, 'Odd', 'enterprise') ON CONFLICT DO NOTHING;
    INSERT INTO llm.membership (organization_id, user_id, role) VALUES (${quoted}, 'usr_ana', 'owner') ON CONFLICT DO NOTHING;
    INSERT INTO llm.project (id, organization_id, name) VALUES (${quoted}, ${quoted}, '<i>Odd</i> project') ON CONFLICT DO NOTHING;
    INSERT INTO llm.api_key (id, project_id, label, user_id) VALUES (${quoted}, ${quoted}, '<img src=x onerror=alert(1)>', 'usr_ana') ON CONFLICT DO NOTHING;
    INSERT INTO public.log (id, request_id, created_at, updated_at, organization_id, project_id, api_key_id, duration, requested_model, used_model, used_provider, response_size, prompt_tokens, completion_tokens, total_tokens, cost, mode, used_mode)
      SELECT 'odd', 'odd', now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC', ${quoted}, ${quoted}, ${quoted}, 0, 'm', 'openai/<b>m</b>', 'openai', 0, 1, 2, 3, 0.25, 'credits', 'credits'
      WHERE NOT EXISTS (SELECT FROM public.log WHERE organization_id = ${quoted})`);
  await open(page, 'usr_ana', '/o/org_acme');
  await page.getByLabel('Organization').selectOption(odd);
  await shown(page);
  expect(await cards(page)).toEqual(['0.25', '1', '3']);
  await page.getByRole('navigation').getByRole('link', { name: '<i>Odd</i> project' }).click();
  await shown(page);
  await expect(page.locator('main h1')).toHaveText('<i>Odd</i> project');
  expect(await cards(page)).toEqual(['0.25', '1', '3']);
  await page.reload();
  await shown(page);
  expect(await cards(page)).toEqual(['0.25', '1', '3']);
  await page.getByRole('navigation').getByRole('link', { name: 'API keys' }).click();
  await page.getByRole('link', { name: 'View statistics' }).click();
  await shown(page);
  await expect(page.locator('main h1')).toContainText('<img src=x onerror=alert(1)>');
  expect(await cards(page)).toEqual(['0.25', '1', '3']);
});
