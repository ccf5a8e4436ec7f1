import type { Driver, Drivers } from '../api';
import { url, useAnswer } from '../api';
import { change, money, percent } from '../format';
import type { Place } from '../layout';
import type { Column } from '../parts';
import { Choice, Csv, Panel, Refused, Shown, Table, Title, Value } from '../parts';
import { GROUPS } from '../view';

/** "all of it volume", from the two parts as PostgreSQL split them. */
function why({ volume, price }: Driver): string {
  const [byVolume, byPrice] = [Number(volume), Number(price)];
  if (byPrice === 0) return 'all of it volume';
  if (byVolume === 0) return 'all of it price';
  return `${change(volume)} by volume, ${change(price)} by price`;
}

export function sentence(driver: Driver, total: Drivers['change']): string {
  return `${driver.label} drove ${change(driver.change)} of ${change(total.cost)}, ${why(driver)}`;
}

export function Changes({ org, view, access }: Place) {
  const capability = access?.capabilities.organizationAnalytics;
  const where = url('/analytics/drivers', { organizationId: org, from: view.from, to: view.to, timezone: view.zone });
  const answer = useAnswer<Drivers>(capability?.allowed ? where : undefined);
  const by = GROUPS.find(([name]) => name === view.get('by'))?.[0] ?? 'model';
  const name = GROUPS.find(([value]) => value === by)![1];
  return (
    <>
      <Title>What changed</Title>
      {capability && !capability.allowed ? (
        <Refused reason={capability.reason!} />
      ) : (
        <Shown answer={answer}>
          {(data) => {
            const drivers = data.drivers[by];
            const most = Math.max(...drivers.map((driver) => Math.abs(Number(driver.change))), 0);
            const columns: Column<Driver>[] = [
              { name, cell: (driver) => driver.label, by: (driver) => driver.label },
              {
                name: 'Change',
                cell: (driver) => (
                  <span class={Number(driver.change) < 0 ? 'bar down' : 'bar up'}>
                    <span class="track" aria-hidden="true">
                      <span style={{ width: `${(100 * Math.abs(Number(driver.change))) / (most || 1)}%` }} />
                    </span>
                    <Value n={driver.change} show={change} />
                  </span>
                ),
                by: (driver) => Number(driver.change),
                isNumber: true,
              },
              { name: 'Volume', cell: (driver) => <Value n={driver.volume} show={change} />, by: (driver) => Number(driver.volume), isNumber: true },
              { name: 'Price', cell: (driver) => <Value n={driver.price} show={change} />, by: (driver) => Number(driver.price), isNumber: true },
              { name: 'Before', cell: (driver) => <Value n={driver.costBefore} show={money} />, by: (driver) => Number(driver.costBefore), isNumber: true },
              { name: 'After', cell: (driver) => <Value n={driver.costAfter} show={money} />, by: (driver) => Number(driver.costAfter), isNumber: true },
            ];
            return (
              <>
                <p class="lead" data-words>
                  Cost went from <Value n={data.before.cost} show={money} /> ({data.compareFrom} – {data.compareTo}) to <Value n={data.after.cost} show={money} /> ({data.from} –{' '}
                  {data.to}): <b>{change(data.change.cost)}</b>
                  {data.change.percent !== null && <> ({Number(data.change.percent) > 0 && '+'}{percent(data.change.percent)})</>}.
                </p>
                <Choice label="Explained by" options={GROUPS} value={by} onChange={(value) => view.set({ by: value })} />
                {drivers.length > 0 && (
                  <ol class="words">
                    {drivers.slice(0, 3).map((driver) => (
                      <li key={driver.key ?? driver.label}>{sentence(driver, data.change)}</li>
                    ))}
                  </ol>
                )}
                <Panel title={`By ${name.toLowerCase()}`} tools={<Csv of={where} name={`${org}-changes`} />}>
                  <Table label={`Changes by ${name.toLowerCase()}`} columns={columns} rows={drivers} keyOf={(driver) => `${driver.kind ?? ''}=${driver.key ?? driver.label}`} />
                </Panel>
              </>
            );
          }}
        </Shown>
      )}
    </>
  );
}
