import type { ComponentChildren } from 'preact';
import { Link, useLocation } from 'wouter-preact';
import type { Activity, Entry } from '../api';
import { url, useAnswer } from '../api';
import { Areas, Bars } from '../chart';
import { METRICS } from '../format';
import type { Place } from '../layout';
import { Cards, Choice, Csv, Empty, Entries, Incomplete, isEmpty, Metrics, Panel, Refused, Shown, Title } from '../parts';
import { GROUPS, path } from '../view';

const PAGES: Record<string, string> = { project: 'projects', apiKey: 'keys', user: 'members' };

export function Organization({ org, view, access }: Place) {
  const [, go] = useLocation();
  const group = GROUPS.find(([name]) => name === view.get('group'))?.[0] ?? 'model';
  const name = GROUPS.find(([value]) => value === group)![1];
  const capability = access?.capabilities.organizationAnalytics;
  const where = url('/analytics/activity', { organizationId: org, groupBy: group, from: view.from, to: view.to, timezone: view.zone, top: '10' });
  const answer = useAnswer<Activity>(capability?.allowed ? where : undefined);
  // A click on a bar, or the link in the table, opens the page of what it stands for.
  const target = (entry: Entry) => (Object.hasOwn(PAGES, group) && entry.key !== null ? path(org, PAGES[group], entry.key) + view.query : undefined);
  const link = (entry: Entry): ComponentChildren => {
    const to = target(entry);
    return to ? <Link href={to}>{entry.label}</Link> : entry.label;
  };
  const metric = METRICS[view.metric].name;
  return (
    <>
      <Title>Organization</Title>
      {capability && !capability.allowed ? (
        <Refused reason={capability.reason!} />
      ) : (
        <>
          <div class="tools">
            <Choice label="Group by" isLabeled options={GROUPS} value={group} onChange={(value) => view.set({ group: value })} />
            <Metrics view={view} />
          </div>
          <Shown answer={answer}>
            {(data) =>
              isEmpty(data.summary) ? (
                <Empty />
              ) : (
                <>
                  <Incomplete before={data.incompleteBefore} />
                  <Cards summary={data.summary} />
                  <Panel title={`${metric} by ${name.toLowerCase()} over time`}>
                    <Areas days={data.activity} entries={data.breakdown} metric={view.metric} label={`${metric} by ${name.toLowerCase()}, day by day`} />
                  </Panel>
                  <Panel title={`${metric} by ${name.toLowerCase()}`} tools={<Csv of={where} name={`${org}-${group}`} />}>
                    <Bars
                      entries={data.breakdown}
                      metric={view.metric}
                      label={`${metric} by ${name.toLowerCase()}`}
                      onClick={(entry) => {
                        const to = target(entry);
                        if (to) go(to);
                      }}
                    />
                    <Entries title={name} entries={data.breakdown} link={link} />
                  </Panel>
                </>
              )
            }
          </Shown>
        </>
      )}
    </>
  );
}
