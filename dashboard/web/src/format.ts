// Numbers and dates as people read them. Intl rounds decimal text exactly.
import type { Num } from './api';

const exact = (n: Num) => n as number;
const usd = new Intl.NumberFormat('en-US', { style: 'currency', currency: 'USD' });
const small = new Intl.NumberFormat('en-US', { style: 'currency', currency: 'USD', minimumFractionDigits: 2, maximumFractionDigits: 4 });
const signed = new Intl.NumberFormat('en-US', { style: 'currency', currency: 'USD', signDisplay: 'exceptZero' });
const compactUsd = new Intl.NumberFormat('en-US', { style: 'currency', currency: 'USD', notation: 'compact', maximumFractionDigits: 1 });
const plain = new Intl.NumberFormat('en-US');
const compact = new Intl.NumberFormat('en-US', { notation: 'compact', maximumFractionDigits: 1 });
const rate = new Intl.NumberFormat('en-US', { minimumFractionDigits: 2, maximumFractionDigits: 2 });

export const money = (n: Num) => (Math.abs(Number(n)) < 1 ? small : usd).format(exact(n));
export const change = (n: Num) => signed.format(exact(n));
export const count = (n: Num) => plain.format(exact(n));
export const percent = (n: Num) => `${rate.format(exact(n))} %`;
export const short = (metric: Metric, n: number) => (metric === 'cost' ? compactUsd : compact).format(n);

export type Metric = 'cost' | 'requests' | 'tokens';
export const METRICS: Record<Metric, { name: string; field: 'cost' | 'requestCount' | 'totalTokens'; show: (n: Num) => string }> = {
  cost: { name: 'Cost', field: 'cost', show: money },
  requests: { name: 'Requests', field: 'requestCount', show: count },
  tokens: { name: 'Tokens', field: 'totalTokens', show: count },
};
