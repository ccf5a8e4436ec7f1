// Charts: ECharts, as much of it as is used, drawn as SVG.
import { BarChart, LineChart } from 'echarts/charts';
import { AriaComponent, GridComponent, TooltipComponent } from 'echarts/components';
import type { EChartsCoreOption, EChartsType } from 'echarts/core';
import { init, use } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Day, Entry, Name, Slim } from './api';
import type { Metric } from './format';
import { METRICS, short } from './format';
import { useTheme } from './theme';

use([BarChart, LineChart, GridComponent, TooltipComponent, AriaComponent, SVGRenderer]);

const PALETTE = ['#2563eb', '#f59e0b', '#10b981', '#8b5cf6', '#ef4444', '#0ea5e9', '#d946ef', '#84cc16', '#f97316', '#14b8a6'];
const GREY = '#94a3b8';
/** So many are told apart by color; what follows is drawn in grey. */
const SHOWN = PALETTE.length;

const idOf = (name: Name) => name.kind ?? `=${name.key ?? name.label}`;
const colorOf = (entries: Name[]) => {
  const colors = new Map(entries.slice(0, SHOWN).map((entry, at) => [idOf(entry), entry.kind === 'other' ? GREY : PALETTE[at]]));
  return (name: Name) => colors.get(idOf(name)) ?? GREY;
};
const escape = (text: string) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

function Chart(props: { option: EChartsCoreOption; height: number; label: string; onClick?: (at: number) => void }) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<EChartsType>(null);
  const click = useRef(props.onClick);
  click.current = props.onClick;
  useEffect(() => {
    const made = init(box.current!, undefined, { renderer: 'svg' });
    chart.current = made;
    made.on('click', (event) => click.current?.(event.dataIndex));
    const observer = new ResizeObserver(() => made.resize());
    observer.observe(box.current!);
    return () => {
      observer.disconnect();
      made.dispose();
    };
  }, []);
  useEffect(() => {
    chart.current?.resize({ height: props.height });
    chart.current?.setOption(props.option, { notMerge: true });
  }, [props.option, props.height]);
  return <div ref={box} class="chart" role="img" aria-label={props.label} style={{ height: `${props.height}px` }} />;
}

const useColors = () => {
  const theme = useTheme();
  return theme === 'dark' ? { text: '#cbd5e1', line: '#334155', tip: '#0f172a' } : { text: '#475569', line: '#e2e8f0', tip: '#ffffff' };
};
const tooltip = (colors: { text: string; line: string; tip: string }) => ({
  backgroundColor: colors.tip,
  borderColor: colors.line,
  textStyle: { color: colors.text },
  confine: true,
});
const base = { animation: false, aria: { enabled: false } };

/** Who used most, as bars. */
export function Bars(props: { entries: Entry[]; metric: Metric; label: string; onClick?: (entry: Entry) => void }) {
  const colors = useColors();
  const { field, show, name } = METRICS[props.metric];
  const isOther = (entry: Entry) => Number(entry.kind === 'other');
  const shown = props.entries.slice(0, SHOWN + 1).sort((a, b) => isOther(a) - isOther(b) || Number(b[field]) - Number(a[field]));
  const color = colorOf(props.entries);
  const option = {
    ...base,
    grid: { left: 8, right: 72, top: 4, bottom: 4, containLabel: true },
    tooltip: { ...tooltip(colors), trigger: 'item', formatter: (at: { dataIndex: number }) => `${escape(shown[at.dataIndex].label)}<br><b>${show(shown[at.dataIndex][field])}</b>` },
    xAxis: { type: 'value', show: false },
    yAxis: {
      type: 'category',
      inverse: true,
      data: shown.map((entry) => entry.label),
      axisLine: { show: false },
      axisTick: { show: false },
      axisLabel: { color: colors.text, width: 170, overflow: 'truncate' },
    },
    series: [
      {
        type: 'bar',
        name,
        barMaxWidth: 18,
        cursor: props.onClick ? 'pointer' : 'default',
        label: { show: true, position: 'right', color: colors.text, formatter: (at: { dataIndex: number }) => show(shown[at.dataIndex][field]) },
        data: shown.map((entry) => ({ value: Number(entry[field]), itemStyle: { color: color(entry), borderRadius: 3 } })),
      },
    ],
  };
  const more = props.entries.length - shown.length;
  return (
    <>
      <Chart option={option} height={Math.max(60, shown.length * 30 + 10)} label={props.label} onClick={(at) => props.onClick?.(shown[at])} />
      {more > 0 && <p class="hint">{more} more in the table.</p>}
    </>
  );
}

/** How it came about day by day, as stacked areas with a legend whose buttons toggle. */
export function Areas(props: { days: Day[]; entries: Entry[]; metric: Metric; label: string }) {
  const colors = useColors();
  const [hidden, setHidden] = useState<string[]>([]);
  const { field, show } = METRICS[props.metric];
  const color = colorOf(props.entries);
  const cells = props.days.map((day) => new Map(day.breakdown.map((cell): [string, Slim] => [idOf(cell), cell])));
  const visible = props.entries.filter((entry) => !hidden.includes(idOf(entry)));
  const option = {
    ...base,
    grid: { left: 8, right: 16, top: 12, bottom: 4, containLabel: true },
    tooltip: {
      ...tooltip(colors),
      trigger: 'axis',
      formatter: (points: { dataIndex: number }[]) => {
        const day = props.days[points[0].dataIndex];
        const lines = day.breakdown
          .filter((cell) => !hidden.includes(idOf(cell)) && Number(cell[field]) !== 0)
          .slice(0, SHOWN + 1)
          .map((cell) => `<span class="dot" style="background:${color(cell)}"></span>${escape(cell.label)} <b>${show(cell[field])}</b>`);
        return [`<b>${day.date}</b>, all: ${show(day[field])}`, ...lines].join('<br>');
      },
    },
    xAxis: {
      type: 'category',
      boundaryGap: false,
      data: props.days.map((day) => day.date),
      axisLine: { lineStyle: { color: colors.line } },
      axisLabel: { color: colors.text, hideOverlap: true, margin: 14 },
    },
    yAxis: {
      type: 'value',
      splitLine: { lineStyle: { color: colors.line } },
      axisLabel: { color: colors.text, formatter: (value: number) => short(props.metric, value) },
    },
    series: visible.map((entry) => ({
      type: 'line',
      name: entry.label,
      stack: 'all',
      symbol: 'circle',
      showSymbol: props.days.length === 1,
      lineStyle: { width: 1 },
      areaStyle: { opacity: 0.55 },
      color: color(entry),
      data: cells.map((day) => Number(day.get(idOf(entry))?.[field] ?? 0)),
    })),
  };
  const toggle = (id: string) => setHidden(hidden.includes(id) ? hidden.filter((other) => other !== id) : [...hidden, id]);
  return (
    <>
      <Chart option={option} height={280} label={props.label} />
      <ul class="legend">
        {props.entries.slice(0, SHOWN + 1).map((entry) => (
          <li key={idOf(entry)}>
            <button type="button" aria-pressed={!hidden.includes(idOf(entry))} onClick={() => toggle(idOf(entry))}>
              <span class="dot" style={{ background: color(entry) }} />
              {entry.label}
            </button>
          </li>
        ))}
      </ul>
    </>
  );
}
