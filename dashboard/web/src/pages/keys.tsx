import { Link } from 'wouter-preact';
import type { ApiKeys } from '../api';
import { url, useAnswer } from '../api';
import type { Place } from '../layout';
import type { Column } from '../parts';
import { Csv, Panel, Shown, Table, Title } from '../parts';
import { path } from '../view';

type ApiKey = ApiKeys['apiKeys'][number];

export function Keys({ org, view }: Place) {
  const where = url('/api-keys', { organizationId: org });
  const columns: Column<ApiKey>[] = [
    { name: 'API key', cell: (key) => key.label, by: (key) => key.label },
    { name: 'Project', cell: (key) => key.project ?? '–', by: (key) => key.project ?? '' },
    { name: 'Created by', cell: (key) => key.createdByName ?? '–', by: (key) => key.createdByName ?? '' },
    {
      name: 'Usage',
      cell: (key) => (
        <Link href={path(org, 'keys', key.id) + view.query} aria-label={`View statistics of ${key.label}`}>
          View statistics
        </Link>
      ),
    },
  ];
  return (
    <>
      <Title>API keys</Title>
      <Shown answer={useAnswer<ApiKeys>(where)}>
        {({ apiKeys }) =>
          apiKeys.length === 0 ? (
            <section class="notice">
              <h2>No API keys</h2>
              <p>There are none that you may open.</p>
            </section>
          ) : (
            <Panel title={`${apiKeys.length} keys`} tools={<Csv of={where} name={`${org}-keys`} />}>
              <Table label="API keys" columns={columns} rows={apiKeys} keyOf={(key) => key.id} />
            </Panel>
          )
        }
      </Shown>
    </>
  );
}
