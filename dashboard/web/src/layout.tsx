// What is around every page: where one is, which days, which zone, who.
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { Link, useLocation } from 'wouter-preact';
import type { Access, Organizations, Projects } from './api';
import { ask, useAnswer } from './api';
import { Title } from './parts';
import { isDate, PRESETS, zones } from './range';
import { toggleTheme, useTheme } from './theme';
import type { View } from './view';
import { path } from './view';

export interface Place {
  org: string;
  view: View;
  access?: Access;
}

function RangePicker({ view }: { view: View }) {
  const box = useRef<HTMLDetailsElement>(null);
  const [dates, setDates] = useState<[string, string]>([view.from, view.to]);
  useEffect(() => setDates([view.from, view.to]), [view.from, view.to]);
  const close = () => {
    box.current!.open = false;
    box.current!.querySelector('summary')!.focus();
  };
  const isRight = isDate(dates[0]) && isDate(dates[1]) && dates[0] <= dates[1];
  const input = (at: 0 | 1, name: string) => (
    <label>
      {name}
      <input type="date" value={dates[at]} onInput={(event) => setDates(at === 0 ? [event.currentTarget.value, dates[1]] : [dates[0], event.currentTarget.value])} />
    </label>
  );
  return (
    <details class="picker" ref={box} onKeyDown={(event) => event.key === 'Escape' && close()}>
      <summary>
        <b>{view.preset ? PRESETS[view.preset].name : 'Custom'}</b> <span class="dates">{view.from === view.to ? view.from : `${view.from} – ${view.to}`}</span>
      </summary>
      <div class="popover">
        <div class="presets">
          {Object.entries(PRESETS).map(([name, preset]) => (
            <button
              type="button"
              key={name}
              aria-pressed={name === view.preset}
              onClick={() => {
                view.set({ range: name, from: undefined, to: undefined });
                close();
              }}
            >
              {preset.name}
            </button>
          ))}
        </div>
        <form
          onSubmit={(event) => {
            event.preventDefault();
            if (!isRight) return;
            view.set({ range: undefined, from: dates[0], to: dates[1] });
            close();
          }}
        >
          {input(0, 'From')}
          {input(1, 'To')}
          <button type="submit" disabled={!isRight}>
            Show
          </button>
        </form>
      </div>
    </details>
  );
}

function ZonePicker({ view }: { view: View }) {
  const all = zones();
  return (
    <label class="zone">
      <span>Time zone</span>
      <select value={view.zone} onChange={(event) => view.set({ tz: event.currentTarget.value })}>
        {(all.includes(view.zone) ? all : [view.zone, ...all]).map((zone) => (
          <option key={zone} value={zone}>
            {zone}
          </option>
        ))}
      </select>
    </label>
  );
}

interface DemoUsers {
  current: string | null;
  users: { id: string; name: string }[];
}

/** Only a demo has this: one can be any of its sample users. */
function DemoUser() {
  const { data } = useAnswer<DemoUsers>('/demo/users');
  const change = async (user: string) => {
    await ask(`/demo/sign-in?${new URLSearchParams({ user })}`, { method: 'POST' });
    window.location.assign('/');
  };
  if (!data) return null;
  return (
    <label class="demo">
      <span>Demo: you are</span>
      <select value={data.current ?? ''} onChange={(event) => void change(event.currentTarget.value)}>
        {data.current === null && <option value="">nobody yet</option>}
        {data.users.map((user) => (
          <option key={user.id} value={user.id}>
            {user.name}
          </option>
        ))}
      </select>
    </label>
  );
}

function ThemeButton() {
  const theme = useTheme();
  return (
    <button type="button" class="theme" onClick={toggleTheme} aria-label={theme === 'dark' ? 'Light colors' : 'Dark colors'}>
      {theme === 'dark' ? '☀' : '☾'}
    </button>
  );
}

function Sidebar({ org, view, access }: Place) {
  const [location, go] = useLocation();
  const { data: organizations } = useAnswer<Organizations>('/organizations');
  const { data: projects } = useAnswer<Projects>(access?.capabilities.projectAnalytics.allowed ? `/projects?${new URLSearchParams({ organizationId: org })}` : undefined);
  const item = (to: string, name: string, badge?: string) => {
    const here = decodeURI(to);
    const isHere = location === here || (to !== path(org) && location.startsWith(`${here}/`));
    return (
      <li>
        <Link href={to + view.query} aria-current={isHere ? 'page' : undefined}>
          <span>{name}</span>
          {badge && <span class="badge">{badge}</span>}
        </Link>
      </li>
    );
  };
  return (
    <nav class="sidebar" aria-label="Pages">
      <label>
        <span>Organization</span>
        <select value={org} onChange={(event) => go(path(event.currentTarget.value) + view.query)}>
          {(organizations?.organizations ?? [{ id: org, name: org }]).map((organization) => (
            <option key={organization.id} value={organization.id}>
              {organization.name}
            </option>
          ))}
        </select>
      </label>
      <ul>
        {item(path(org), 'Organization', 'Enterprise')}
        {item(path(org, 'changes'), 'What changed', 'Enterprise')}
        {item(path(org, 'members'), 'Members', 'Enterprise')}
        {item(path(org, 'keys'), 'API keys')}
        {item(path(org, 'me'), 'My usage')}
      </ul>
      {projects && projects.projects.length > 0 && (
        <>
          <h2>Projects</h2>
          <ul>{projects.projects.map((project) => item(path(org, 'projects', project.id), project.name, project.status === 'deleted' ? 'deleted' : undefined))}</ul>
        </>
      )}
    </nav>
  );
}

export function Layout(props: Place & { children: ComponentChildren }) {
  return (
    <div class="frame">
      <a class="skip" href="#main">
        To the page
      </a>
      <Sidebar {...props} />
      <div class="body">
        <header class="top">
          <RangePicker view={props.view} />
          <ZonePicker view={props.view} />
          <DemoUser />
          <ThemeButton />
        </header>
        <main id="main" tabIndex={-1}>
          {props.children}
        </main>
      </div>
    </div>
  );
}

export function SignIn() {
  return (
    <main class="alone">
      <section class="notice" data-reason="no_identity">
        <Title>Not signed in</Title>
        <p>These pages need a signed token, as the cookie llm_token or as Authorization: Bearer.</p>
        <DemoUser />
      </section>
    </main>
  );
}
