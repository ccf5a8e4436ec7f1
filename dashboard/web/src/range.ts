// Ranges of local days. A preset rolls on with the days; dates stay.
import { endOfMonth, endOfQuarter, endOfYear, format, isValid, parseISO, startOfISOWeek, startOfMonth, startOfQuarter, startOfYear, subDays, subMonths, subQuarters, subWeeks, subYears } from 'date-fns';

export interface Days {
  from: string;
  to: string;
}

type Rule = (today: Date) => [Date, Date];
const last = (days: number): Rule => (today) => [subDays(today, days - 1), today];

export const PRESETS: Record<string, { name: string; days: Rule }> = {
  today: { name: 'Today', days: (today) => [today, today] },
  'last-7': { name: 'Last 7 days', days: last(7) },
  'last-30': { name: 'Last 30 days', days: last(30) },
  'last-90': { name: 'Last 90 days', days: last(90) },
  'this-week': { name: 'This week', days: (today) => [startOfISOWeek(today), today] },
  'last-week': { name: 'Last week', days: (today) => [startOfISOWeek(subWeeks(today, 1)), subDays(startOfISOWeek(today), 1)] },
  'this-month': { name: 'This month', days: (today) => [startOfMonth(today), today] },
  'last-month': { name: 'Last month', days: (today) => [startOfMonth(subMonths(today, 1)), endOfMonth(subMonths(today, 1))] },
  'this-quarter': { name: 'This quarter', days: (today) => [startOfQuarter(today), today] },
  'last-quarter': { name: 'Last quarter', days: (today) => [startOfQuarter(subQuarters(today, 1)), endOfQuarter(subQuarters(today, 1))] },
  'this-year': { name: 'This year', days: (today) => [startOfYear(today), today] },
  'last-year': { name: 'Last year', days: (today) => [startOfYear(subYears(today, 1)), endOfYear(subYears(today, 1))] },
};
export const DEFAULT_PRESET = 'last-30';

/** The date it is in a zone now; in UTC where the browser does not know the zone. */
export function todayIn(zone: string): string {
  try {
    // sv-SE writes dates as ISO 8601 does
    return new Intl.DateTimeFormat('sv-SE', { timeZone: zone }).format(new Date());
  } catch {
    return new Intl.DateTimeFormat('sv-SE', { timeZone: 'UTC' }).format(new Date());
  }
}

const iso = (date: Date) => format(date, 'yyyy-MM-dd');

export function daysOf(preset: string, zone: string): Days {
  const [from, to] = PRESETS[preset].days(parseISO(todayIn(zone)));
  return { from: iso(from), to: iso(to) };
}

export const isDate = (text: string | null): text is string => text !== null && /^\d{4}-\d{2}-\d{2}$/.test(text) && isValid(parseISO(text));

export const browserZone = () => Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC';
export const zones = () => ['UTC', ...Intl.supportedValuesOf('timeZone').filter((zone) => zone !== 'UTC')];
