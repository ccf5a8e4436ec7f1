// Cost by model, of a project, a key or a member: bars, over time, and the toggle between mappings and canonical names.
import type { ComponentChildren } from 'preact';
import type { Answer, Measures, ModelPage } from '../api';
import { url, useAnswer } from '../api';
import { Areas, Bars } from '../chart';
import { METRICS } from '../format';
import { Choice, Csv, Empty, Entries, Incomplete, isEmpty, Metrics, Panel, Shown, Title } from '../parts';
import type { View } from '../view';

const VIEWS = [
  ['mappings', 'Mappings'],
  ['canonical', 'Canonical'],
] as ['mappings' | 'canonical', string][];
type ModelView = (typeof VIEWS)[number][0];

export function ModelsOf<T extends ModelPage>(props: {
  endpoint: string;
  org: string;
  view: View;
  name: string;
  byDefault: ModelView;
  /** Until its own title is known. */
  heading: string;
  title: (data: T) => ComponentChildren;
  cards: (summary: Measures, data: T) => ComponentChildren;
  more?: (data: T) => ComponentChildren;
}) {
  const { view } = props;
  const where = (modelView: ModelView) =>
    url(props.endpoint, { organizationId: props.org, from: view.from, to: view.to, timezone: view.zone, modelView });
  // Both, so that the toggle asks nothing.
  const answers: Record<ModelView, Answer<T>> = { mappings: useAnswer<T>(where('mappings')), canonical: useAnswer<T>(where('canonical')) };
  const shown = VIEWS.find(([name]) => name === view.get('models'))?.[0] ?? props.byDefault;
  const metric = METRICS[view.metric].name;
  const answer = answers[shown];
  return (
    <>
      {(answer.data === undefined || answer.error) && <Title>{props.heading}</Title>}
      <Shown answer={answer}>
        {(data) => (
          <>
            <Title>{props.title(data)}</Title>
            <Incomplete before={data.incompleteBefore} />
            {isEmpty(data.summary) ? (
              <Empty />
            ) : (
              <>
                {props.cards(data.summary, data)}
                <div class="tools">
                  <Metrics view={view} />
                  <Choice label="Models" options={VIEWS} value={shown} onChange={(models) => view.set({ models })} />
                </div>
                <Panel title={`${metric} by model`} tools={<Csv of={where(shown)} name={props.name} />}>
                  <Bars entries={data.costByModel} metric={view.metric} label={`${metric} by model`} />
                  <Entries title="Model" entries={data.costByModel} />
                </Panel>
                <Panel title={`${metric} by model over time`}>
                  <Areas days={data.activity} entries={data.costByModel} metric={view.metric} label={`${metric} by model, day by day`} />
                </Panel>
                {props.more?.(data)}
              </>
            )}
          </>
        )}
      </Shown>
    </>
  );
}
