import { Link } from 'wouter-preact';
import type { Member, Members as Answer } from '../api';
import { url, useAnswer } from '../api';
import { count } from '../format';
import type { Place } from '../layout';
import type { Column } from '../parts';
import { Cards, Csv, Incomplete, measureColumns, Panel, Refused, Shown, Table, Title, Value } from '../parts';
import { path } from '../view';

export function Members({ org, view, access }: Place) {
  const capability = access?.capabilities.memberAnalytics;
  const where = url('/analytics/members', { organizationId: org, from: view.from, to: view.to, timezone: view.zone });
  const answer = useAnswer<Answer>(capability?.allowed ? where : undefined);
  const columns: Column<Member>[] = [
    {
      name: 'Member',
      cell: (member) =>
        member.userId === null ? (
          member.name
        ) : (
          <>
            <Link href={path(org, 'members', member.userId) + view.query}>{member.name}</Link>
            {member.email && member.email !== member.name && <small> {member.email}</small>}
          </>
        ),
      by: (member) => member.name,
    },
    { name: 'Role', cell: (member) => member.role ?? (member.userId === null ? '–' : 'former member'), by: (member) => member.role ?? '' },
    ...measureColumns<Member>(),
    { name: 'API keys', cell: (member) => <Value n={member.apiKeyCount} show={count} />, by: (member) => Number(member.apiKeyCount), isNumber: true },
  ];
  return (
    <>
      <Title>Members</Title>
      {capability && !capability.allowed ? (
        <Refused reason={capability.reason!} />
      ) : (
        <Shown answer={answer}>
          {(data) => (
            <>
              <Incomplete before={data.incompleteBefore} />
              <Cards summary={data.summary} of={['cost', 'requests', 'tokens', 'errors']} />
              <Panel title={`${data.members.length} members`} tools={<Csv of={where} name={`${org}-members`} />}>
                <Table label="Members" columns={columns} rows={data.members} keyOf={(member) => member.userId ?? ''} />
              </Panel>
            </>
          )}
        </Shown>
      )}
    </>
  );
}
