import type { MemberPage } from '../api';
import { count } from '../format';
import type { Place } from '../layout';
import { Cards, Entries, Panel, Refused, Title, Value } from '../parts';
import { ModelsOf } from './models';

function Page({ org, view, endpoint, name, heading }: Place & { endpoint: string; name: string; heading: string }) {
  return (
    <ModelsOf<MemberPage>
      endpoint={endpoint}
      org={org}
      view={view}
      name={name}
      byDefault="canonical"
      heading={heading}
      title={(data) => (
        <>
          {data.member.name} <small>{data.member.role ?? 'former member'}</small>
        </>
      )}
      cards={(summary, data) => (
        <>
          <Cards summary={summary} of={['cost', 'requests', 'tokens', 'errors']} />
          <dl class="cards">
            {(['model', 'provider', 'application'] as const).map((what) => (
              <div class="card" key={what} data-card={`most-used-${what}`}>
                <dt>Most used {what}</dt>
                <dd>{data.mostUsed[what] ?? '–'}</dd>
              </div>
            ))}
            <div class="card" data-card="keys">
              <dt>API keys</dt>
              <dd>
                <Value n={data.member.apiKeyCount} show={count} />
              </dd>
            </div>
          </dl>
        </>
      )}
      more={(data) => (
        <div class="pair">
          <Panel title="Top providers">
            <Entries title="Provider" entries={data.topProviders} />
          </Panel>
          <Panel title="Top applications">
            <Entries title="Application" entries={data.topApplications} />
          </Panel>
        </div>
      )}
    />
  );
}

export function Member(props: Place & { id: string }) {
  const capability = props.access?.capabilities.memberAnalytics;
  if (capability && !capability.allowed) {
    return (
      <>
        <Title>Member</Title>
        <Refused reason={capability.reason!} />
      </>
    );
  }
  return capability ? <Page key={props.id} {...props} endpoint={`/analytics/members/${encodeURIComponent(props.id)}`} name={props.id} heading="Member" /> : null;
}

export function Me(props: Place) {
  return <Page {...props} endpoint="/analytics/me" name="my-usage" heading="My usage" />;
}
