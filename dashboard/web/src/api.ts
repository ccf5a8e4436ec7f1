// The endpoints, and what they answer. Numbers that a double cannot hold exactly stay text: nothing is computed with them here.
import { parse } from 'lossless-json';
import { useEffect, useState } from 'preact/hooks';

export type Num = number | string;

export interface Measures {
  cost: Num;
  requestCount: Num;
  inputTokens: Num;
  outputTokens: Num;
  totalTokens: Num;
  errorCount: Num;
  clientErrorCount: Num;
  errorRate: Num;
  cacheCount: Num;
  cacheRate: Num;
}
export interface Name {
  key: string | null;
  label: string;
  kind?: 'other' | 'unattributed';
}
export type Entry = Name & Measures;
export type Slim = Name & Pick<Measures, 'cost' | 'requestCount' | 'totalTokens'>;
export type Day = { date: string; breakdown: Slim[] } & Measures;
interface Range {
  from: string;
  to: string;
  timezone: string;
  incompleteBefore: string | null;
}
export type Activity = Range & { groupBy: string; summary: Measures; breakdown: Entry[]; activity: Day[] };
export type ModelPage = Range & { summary: Measures; costByModel: Entry[]; activity: Day[] };
export type ProjectPage = ModelPage & { project: { id: string; name: string } };
export type KeyPage = ModelPage & { apiKey: { id: string; label: string; projectId: string | null; createdBy: string | null } };
export interface Person {
  userId: string | null;
  name: string;
  email: string | null;
  role: string | null;
  apiKeyCount: Num;
}
export type Member = Person & Measures;
export type Members = Range & { plan: string | null; summary: Measures; members: Member[] };
export type MemberPage = ModelPage & {
  member: Person;
  mostUsed: { model: string | null; provider: string | null; application: string | null };
  topProviders: Entry[];
  topApplications: Entry[];
};
export type Driver = Name & {
  costBefore: Num;
  costAfter: Num;
  change: Num;
  share: Num | null;
  requestsBefore: Num;
  requestsAfter: Num;
  volume: Num;
  price: Num;
};
export interface Drivers {
  from: string;
  to: string;
  compareFrom: string;
  compareTo: string;
  timezone: string;
  before: Measures;
  after: Measures;
  change: { cost: Num; requestCount: Num; percent: Num | null };
  drivers: Record<'model' | 'project' | 'apiKey' | 'user' | 'provider' | 'application', Driver[]>;
}
export type Reason = 'no_identity' | 'not_member' | 'role_required' | 'plan_required';
export interface Capability {
  allowed: boolean;
  reason: Reason | null;
}
export interface Access {
  organization: string | null;
  plan: string | null;
  role: string | null;
  capabilities: Record<'projectAnalytics' | 'apiKeyStatistics' | 'ownUsage' | 'organizationAnalytics' | 'memberAnalytics', Capability>;
}
export interface Organizations {
  organizations: { id: string; name: string; plan: string | null; role: string | null }[];
}
export interface Projects {
  projects: { id: string; name: string; status: 'active' | 'deleted' }[];
}
export interface ApiKeys {
  apiKeys: {
    id: string;
    label: string;
    projectId: string | null;
    project: string | null;
    createdBy: string | null;
    createdByName: string | null;
  }[];
}

export class Failure extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly hint: string | null,
  ) {
    super(message);
  }
}

const number = (text: string): Num => (/^-?\d+$/.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : text);

/** `/path?name=value..` without those that are undefined. */
export function url(path: string, parameters: Record<string, string | undefined>): string {
  const given = Object.entries(parameters).filter((pair): pair is [string, string] => pair[1] !== undefined);
  return given.length > 0 ? `${path}?${new URLSearchParams(given)}` : path;
}

export async function ask<T>(where: string, options: RequestInit = {}): Promise<T> {
  let response: Response;
  try {
    response = await fetch(where, { ...options, headers: { Accept: 'application/json' }, credentials: 'same-origin' });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new Failure(0, 'unreachable', 'The server cannot be reached.', 'Check the connection and try again.');
  }
  const text = await response.text();
  if (response.ok) return parse(text, undefined, number) as T;
  let error: { code?: string; message?: string; hint?: string | null } = {};
  try {
    error = (JSON.parse(text) as { error: typeof error }).error;
  } catch {
    // not from the server of these pages
  }
  throw new Failure(response.status, error.code ?? 'unknown', error.message ?? response.statusText, error.hint ?? null);
}

export interface Answer<T> {
  /** The last answer, also while the next is on its way. */
  data?: T;
  error?: Failure;
  isLoading: boolean;
  retry: () => void;
}

/** What an endpoint answers; undefined asks nothing. */
export function useAnswer<T>(where: string | undefined): Answer<T> {
  const [state, setState] = useState<{ of?: string; data?: T; error?: Failure }>({});
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    if (where === undefined) return;
    const abort = new AbortController();
    ask<T>(where, { signal: abort.signal }).then(
      (data) => setState({ of: where, data }),
      (error: unknown) => {
        if (abort.signal.aborted) return;
        setState({ of: where, error: error instanceof Failure ? error : new Failure(0, 'unknown', String(error), null) });
      },
    );
    return () => abort.abort();
  }, [where, attempt]);
  return {
    data: state.data,
    error: state.of === where ? state.error : undefined,
    isLoading: where !== undefined && state.of !== where,
    retry: () => {
      setState({});
      setAttempt(attempt + 1);
    },
  };
}
