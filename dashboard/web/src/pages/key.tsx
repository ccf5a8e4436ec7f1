import { Link } from 'wouter-preact';
import type { KeyPage } from '../api';
import type { Place } from '../layout';
import { Cards } from '../parts';
import { path } from '../view';
import { ModelsOf } from './models';

export function Key({ org, view, id }: Place & { id: string }) {
  return (
    <ModelsOf<KeyPage>
      key={id}
      endpoint={`/analytics/api-keys/${encodeURIComponent(id)}`}
      org={org}
      view={view}
      name={id}
      byDefault="mappings"
      heading="API key"
      title={(data) => (
        <>
          <Link href={path(org, 'keys') + view.query}>API keys</Link> / {data.apiKey.label}
        </>
      )}
      cards={(summary) => <Cards summary={summary} of={['cost', 'tokens', 'requests', 'errors']} />}
    />
  );
}
