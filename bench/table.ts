/** Results as a Markdown table, ratios first. */
import { loadavg } from 'node:os';
import { type Figure, met, type Result } from './measure.ts';

/** The load average when this module was loaded, before any measurement. */
const LOAD_BEFORE = loadavg()[0] ?? 0;
/** Above this something else was running, and rates and latencies are unreliable. */
const QUIET = 1;

export function table(results: readonly Result[], loadBefore = LOAD_BEFORE): string {
  const rows = results.flatMap(({ benchmark, figures }) => figures.map((figure) => ({ benchmark, figure })));
  const ratios = rows.filter(({ figure }) => figure.unit === '×');
  const others = rows.filter(({ figure }) => figure.unit !== '×');
  const lines = [...ratios, ...others].map(
    ({ benchmark, figure }) =>
      `| ${benchmark} | ${figure.what} | ${number(figure.value)} ${figure.unit} | ${targetOf(figure)} | ${verdictOf(figure)} |`,
  );
  const warning =
    loadBefore > QUIET
      ? `\n**The machine was not quiet: its load average was ${number(loadBefore)} before this run.** Rates and latencies that were measured in it say little.\n`
      : '';
  return `| benchmark | figure | measured | target | met |\n| --- | --- | ---: | ---: | --- |\n${lines.join('\n')}\n${warning}`;
}

/** Three significant digits. */
const number = (value: number): string =>
  Math.abs(value) >= 100 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(3)));

function targetOf({ target, unit }: Figure): string {
  if (!target) return '';
  return 'atLeast' in target ? `≥ ${number(target.atLeast)} ${unit}` : `≤ ${number(target.atMost)} ${unit}`;
}

function verdictOf(figure: Figure): string {
  const verdict = met(figure);
  return verdict === undefined ? '' : verdict ? 'yes' : '**no**';
}
