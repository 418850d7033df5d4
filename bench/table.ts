/** Results as a Markdown table, ratios first. */
import { type Figure, met, type Result } from './measure.ts';

export function table(results: readonly Result[]): string {
  const rows = results.flatMap(({ benchmark, figures }) => figures.map((figure) => ({ benchmark, figure })));
  const ratios = rows.filter(({ figure }) => figure.unit === '×');
  const others = rows.filter(({ figure }) => figure.unit !== '×');
  const lines = [...ratios, ...others].map(
    ({ benchmark, figure }) =>
      `| ${benchmark} | ${figure.what} | ${number(figure.value)} ${figure.unit} | ${targetOf(figure)} | ${verdictOf(figure)} |`,
  );
  return `| benchmark | figure | measured | target | met |\n| --- | --- | ---: | ---: | --- |\n${lines.join('\n')}\n`;
}

/** Three digits say enough. */
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
