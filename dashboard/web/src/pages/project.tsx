import type { ProjectPage } from '../api';
import type { Place } from '../layout';
import { Cards } from '../parts';
import { ModelsOf } from './models';

export function Project({ org, view, id }: Place & { id: string }) {
  return (
    <ModelsOf<ProjectPage>
      key={id}
      endpoint={`/analytics/projects/${encodeURIComponent(id)}`}
      org={org}
      view={view}
      name={id}
      byDefault="mappings"
      heading="Project"
      title={(data) => data.project.name}
      cards={(summary) => <Cards summary={summary} of={['cost', 'requests', 'tokens', 'errors', 'cache']} />}
    />
  );
}
