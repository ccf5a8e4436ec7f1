// Pieces that pages are made of.
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Answer, Entry, Measures, Num, Reason } from './api';
import type { Metric } from './format';
import { count, METRICS, money, percent } from './format';
import type { View } from './view';

/** What a page is called, in the tab and in the history too. */
export function Title(props: { children: ComponentChildren }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${heading.current!.textContent} · LLM analytics`;
  });
  return <h1 ref={heading}>{props.children}</h1>;
}

/** A number with its exact value. */
export const Value = (props: { n: Num; show: (n: Num) => string }) => <data value={String(props.n)}>{props.show(props.n)}</data>;

export function Cards({ summary, of }: { summary: Measures; of?: ('cost' | 'requests' | 'tokens' | 'errors' | 'cache')[] }) {
  const all = {
    cost: ['Cost', <Value n={summary.cost} show={money} />],
    requests: ['Requests', <Value n={summary.requestCount} show={count} />],
    tokens: ['Tokens', <Value n={summary.totalTokens} show={count} />],
    errors: ['Error rate', <Value n={summary.errorRate} show={percent} />],
    cache: ['Cache rate', <Value n={summary.cacheRate} show={percent} />],
  } as const;
  return (
    <dl class="cards">
      {(of ?? (['cost', 'requests', 'tokens', 'errors', 'cache'] as const)).map((name) => (
        <div class="card" key={name} data-card={name}>
          <dt>{all[name][0]}</dt>
          <dd>{all[name][1]}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Panel(props: { title: string; tools?: ComponentChildren; children: ComponentChildren }) {
  return (
    <section class="panel">
      <header>
        <h2>{props.title}</h2>
        {props.tools}
      </header>
      {props.children}
    </section>
  );
}

/** One of a few, as buttons. */
export function Choice<T extends string>(props: { label: string; isLabeled?: boolean; options: [T, string][]; value: T; onChange: (value: T) => void }) {
  return (
    <div class="choice" role="group" aria-label={props.label}>
      {props.isLabeled && <span aria-hidden="true">{props.label}</span>}
      {props.options.map(([value, name]) => (
        <button type="button" key={value} aria-pressed={value === props.value} onClick={() => props.onChange(value)}>
          {name}
        </button>
      ))}
    </div>
  );
}

export function Metrics({ view }: { view: View }) {
  const options = Object.entries(METRICS).map(([name, metric]): [Metric, string] => [name as Metric, metric.name]);
  return <Choice label="Measure" options={options} value={view.metric} onChange={(metric) => view.set({ metric })} />;
}

const REFUSED: Record<Reason | 'not_your_key', { title: string; text: string }> = {
  plan_required: { title: 'Part of the enterprise plan', text: 'It shows what every model, project, key and member of your organization costs. Upgrade the plan of the organization to open it.' },
  role_required: { title: 'For owners and admins', text: 'Your role in this organization does not include this page. Your own usage is under “My usage”.' },
  not_member: { title: 'Not your organization', text: 'You are not a member of this organization.' },
  not_your_key: { title: 'Not your key', text: 'Your role shows the keys that you created. They are under “API keys”.' },
  no_identity: { title: 'Not signed in', text: 'Sign in to see these pages.' },
};

export function Refused({ reason }: { reason: keyof typeof REFUSED }) {
  const { title, text } = REFUSED[reason];
  return (
    <section class={`notice ${reason === 'plan_required' ? 'upgrade' : ''}`} data-reason={reason}>
      <h2>{title}</h2>
      <p>{text}</p>
    </section>
  );
}

/** An answer, or what there is instead. */
export function Shown<T>(props: { answer: Answer<T>; children: (data: T) => ComponentChildren }) {
  const { data, error, isLoading, retry } = props.answer;
  if (error) {
    const reason = error.code === 'invalid_token' ? 'no_identity' : error.code;
    if (Object.hasOwn(REFUSED, reason)) return <Refused reason={reason as keyof typeof REFUSED} />;
    return (
      <section class="notice" role="alert">
        <h2>{error.status === 404 ? 'Not found' : 'That did not work'}</h2>
        <p>{error.message}</p>
        {error.hint && <p>{error.hint}</p>}
        <button type="button" onClick={retry}>
          Try again
        </button>
      </section>
    );
  }
  if (data === undefined) return <div class="loading" role="status">{isLoading ? 'Loading …' : ''}</div>;
  return (
    <div class={isLoading ? 'stale' : undefined} aria-busy={isLoading}>
      {props.children(data)}
    </div>
  );
}

export const isEmpty = (summary: Measures) => Number(summary.requestCount) === 0 && Number(summary.cost) === 0;
export const Empty = () => (
  <section class="notice">
    <h2>Nothing was used</h2>
    <p>There are no requests in these days. Choose a longer range.</p>
  </section>
);

export function Incomplete({ before }: { before: string | null }) {
  return before === null ? null : (
    <p class="hint" role="status">
      Days before {before} are still being read from the log and may grow.
    </p>
  );
}

export interface Column<T> {
  name: string;
  cell: (row: T) => ComponentChildren;
  /** What it is sorted by; without, it is not. */
  by?: (row: T) => number | string;
  isNumber?: boolean;
}

/** A table whose columns sort it. */
export function Table<T>(props: { label: string; columns: Column<T>[]; rows: T[]; keyOf: (row: T) => string }) {
  const [order, setOrder] = useState<{ at: number; isDown: boolean }>();
  const by = order && props.columns[order.at].by;
  const rows = by
    ? [...props.rows].sort((a, b) => {
        const [x, y] = [by(a), by(b)];
        return (order.isDown ? -1 : 1) * (typeof x === 'string' ? x.localeCompare(String(y)) : x - Number(y));
      })
    : props.rows;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={props.label}>
      <table>
        <thead>
          <tr>
            {props.columns.map((column, at) => (
              <th key={column.name} scope="col" class={column.isNumber ? 'number' : undefined} aria-sort={order?.at === at ? (order.isDown ? 'descending' : 'ascending') : undefined}>
                {column.by ? (
                  <button type="button" onClick={() => setOrder({ at, isDown: order?.at === at ? !order.isDown : Boolean(column.isNumber) })}>
                    {column.name}
                    <span aria-hidden="true">{order?.at === at ? (order.isDown ? ' ↓' : ' ↑') : ''}</span>
                  </button>
                ) : (
                  column.name
                )}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={props.keyOf(row)}>
              {props.columns.map((column) => (
                <td key={column.name} class={column.isNumber ? 'number' : undefined}>
                  {column.cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function measureColumns<T extends Measures>(): Column<T>[] {
  return [
    { name: 'Cost', cell: (row) => <Value n={row.cost} show={money} />, by: (row) => Number(row.cost), isNumber: true },
    { name: 'Requests', cell: (row) => <Value n={row.requestCount} show={count} />, by: (row) => Number(row.requestCount), isNumber: true },
    { name: 'Tokens', cell: (row) => <Value n={row.totalTokens} show={count} />, by: (row) => Number(row.totalTokens), isNumber: true },
    { name: 'Error rate', cell: (row) => <Value n={row.errorRate} show={percent} />, by: (row) => Number(row.errorRate), isNumber: true },
  ];
}

export const entryKey = (entry: Entry) => `${entry.kind ?? ''}=${entry.key ?? entry.label}`;

export function Entries(props: { title: string; entries: Entry[]; link?: (entry: Entry) => ComponentChildren }) {
  const columns: Column<Entry>[] = [
    { name: props.title, cell: (entry) => props.link?.(entry) ?? entry.label, by: (entry) => entry.label },
    ...measureColumns<Entry>(),
  ];
  return <Table label={`${props.title}, all measures`} columns={columns} rows={props.entries} keyOf={entryKey} />;
}

/** Fetches the same answer as CSV. */
export function Csv({ of, name }: { of: string; name: string }) {
  const save = async () => {
    const response = await fetch(of, { headers: { Accept: 'text/csv' }, credentials: 'same-origin' });
    if (!response.ok) return;
    const link = document.createElement('a');
    link.href = URL.createObjectURL(await response.blob());
    link.download = `${name}.csv`;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  return (
    <button type="button" class="csv" onClick={() => void save()}>
      CSV
    </button>
  );
}
