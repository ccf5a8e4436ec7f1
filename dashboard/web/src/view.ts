// What the URL says of how a page is shown, so that a link shows the same page.
import { useMemo } from 'preact/hooks';
import { useSearchParams } from 'wouter-preact';
import type { Metric } from './format';
import { METRICS } from './format';
import { browserZone, daysOf, DEFAULT_PRESET, isDate, PRESETS } from './range';

export interface View {
  /** A preset's name, or undefined for dates. */
  preset?: string;
  from: string;
  to: string;
  zone: string;
  metric: Metric;
  /** Parameters of one page only. */
  get: (name: string) => string | null;
  /** Changes some; undefined takes one away. `replace`: the Back button does not come back here. */
  set: (change: Record<string, string | undefined>, replace?: boolean) => void;
  /** The part of the URL that goes along to other pages. */
  query: string;
}

/** What usage is grouped by, as the endpoints call it, and its name. */
export const GROUPS: ['model' | 'project' | 'apiKey' | 'user' | 'provider' | 'application', string][] = [
  ['model', 'Model'],
  ['project', 'Project'],
  ['apiKey', 'API key'],
  ['user', 'Member'],
  ['provider', 'Provider'],
  ['application', 'Application'],
];

const CARRIED = ['range', 'from', 'to', 'tz', 'metric'];

export function useView(): View {
  const [search, setSearch] = useSearchParams();
  return useMemo(() => {
    const zone = search.get('tz') || browserZone();
    const [from, to] = [search.get('from'), search.get('to')];
    const hasDates = isDate(from) && isDate(to);
    const wanted = search.get('range') ?? '';
    const preset = hasDates ? undefined : Object.hasOwn(PRESETS, wanted) ? wanted : DEFAULT_PRESET;
    const metric = search.get('metric') ?? '';
    const carried = new URLSearchParams(CARRIED.filter((name) => search.has(name)).map((name) => [name, search.get(name)!]));
    return {
      preset,
      ...(hasDates ? { from, to } : daysOf(preset!, zone)),
      zone,
      metric: Object.hasOwn(METRICS, metric) ? (metric as Metric) : 'cost',
      get: (name) => search.get(name),
      set: (change, replace = false) =>
        setSearch(
          (before) => {
            const next = new URLSearchParams(before);
            for (const [name, value] of Object.entries(change)) {
              if (value === undefined) next.delete(name);
              else next.set(name, value);
            }
            return next;
          },
          { replace },
        ),
      query: carried.size > 0 ? `?${carried}` : '',
    };
  }, [search.toString()]);
}

/**
 * The page of an organization, and of something in it. Pages have a place of their own, because an
 * organization may be called as an endpoint is. Ids may hold anything. The router decodes a path as
 * a whole (decodeURI) before it is taken apart, so they are encoded twice; and browsers resolve the
 * segments `.` and `..`, so dots are encoded there, too.
 */
export const path = (...parts: string[]) => `/o/${parts.map((part) => encodeURIComponent(encoded(part))).join('/')}`;

const encoded = (part: string) => (part === '.' || part === '..' ? part.replaceAll('.', '%2E') : encodeURIComponent(part));

export function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // typed by hand
  }
}
