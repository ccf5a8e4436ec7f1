import { render } from 'preact';
import { useEffect } from 'preact/hooks';
import { Redirect, Route, Switch } from 'wouter-preact';
import type { Access, Organizations } from './api';
import { url, useAnswer } from './api';
import { Layout, SignIn } from './layout';
import { Changes } from './pages/changes';
import { Key } from './pages/key';
import { Keys } from './pages/keys';
import { Me, Member } from './pages/member';
import { Members } from './pages/members';
import { Organization } from './pages/organization';
import { Project } from './pages/project';
import { Shown, Title } from './parts';
import './style.css';
import './theme';
import { decoded, path, useView } from './view';

/** An organization's first page; where a role does not include it, one's own usage. */
function Landing({ org }: { org: string }) {
  const answer = useAnswer<Access>(url('/access', { organizationId: org }));
  return (
    <Shown answer={answer}>
      {({ capabilities }) => <Redirect to={capabilities.organizationAnalytics.reason === 'role_required' ? path(org, 'me') : path(org)} replace />}
    </Shown>
  );
}

/** The first organization of whoever comes without one. */
function Start() {
  const answer = useAnswer<Organizations>('/organizations');
  if (answer.error?.status === 401) return <SignIn />;
  return (
    <main class="alone">
      <Shown answer={answer}>
        {({ organizations }) =>
          organizations.length > 0 ? (
            <Landing org={organizations[0].id} />
          ) : (
            <section class="notice" data-reason="not_member">
              <Title>No organization</Title>
              <p>You are not a member of any organization.</p>
            </section>
          )
        }
      </Shown>
    </main>
  );
}

function Pages({ org }: { org: string }) {
  const view = useView();
  const answer = useAnswer<Access>(url('/access', { organizationId: org }));
  useEffect(() => {
    // So that a copied link shows these days in this zone.
    if (view.get('tz') === null || (view.preset && view.get('range') === null)) view.set({ tz: view.zone, range: view.preset }, true);
  }, [view]);
  if (answer.error?.status === 401) return <SignIn />;
  const place = { org, view, access: answer.data };
  return (
    <Layout {...place}>
      <Switch>
        <Route path="/o/:org">
          <Organization {...place} />
        </Route>
        <Route path="/o/:org/changes">
          <Changes {...place} />
        </Route>
        <Route path="/o/:org/members">
          <Members {...place} />
        </Route>
        <Route path="/o/:org/members/:id">{({ id }) => <Member {...place} id={decoded(id)} />}</Route>
        <Route path="/o/:org/me">
          <Me {...place} />
        </Route>
        <Route path="/o/:org/keys">
          <Keys {...place} />
        </Route>
        <Route path="/o/:org/keys/:id">{({ id }) => <Key {...place} id={decoded(id)} />}</Route>
        <Route path="/o/:org/projects/:id">{({ id }) => <Project {...place} id={decoded(id)} />}</Route>
        <Route>
          <section class="notice">
            <Title>Not found</Title>
            <p>There is no such page.</p>
          </section>
        </Route>
      </Switch>
    </Layout>
  );
}

/** Until 0.1.1 pages were at the root, where endpoints are, too. Links from then go on working. */
const Moved = () => <Redirect to={`/o${window.location.pathname}${window.location.search}`} replace />;

function App() {
  return (
    <Switch>
      <Route path="/">
        <Start />
      </Route>
      <Route path="/o/:org/*?">{({ org }) => <Pages key={org} org={decoded(org)} />}</Route>
      <Route path="/:org/*?">
        <Moved />
      </Route>
      <Route>
        <Redirect to="/" replace />
      </Route>
    </Switch>
  );
}

render(<App />, document.getElementById('app')!);
