/** The plots: events in and out, what waits, and how long it takes, over the last hour. */
import { clock, make, now, setText } from './dom.js';
import { count, duration, rate } from './format.js';
import UPlot from './uplot.js';

const HEIGHT = 170;
/** What each plot shows: values of a sample by name, and how they read. Lines differ in more than colour. */
const PLOTS = [
  {
    title: 'Events per second',
    read: (value) => `${rate(value)}/s`,
    lines: [
      { of: 'in', name: 'In', colour: '--first' },
      { of: 'out', name: 'Out', colour: '--second', dash: [6, 3] },
    ],
  },
  {
    title: 'Waiting in the outbox',
    read: count,
    lines: [{ of: 'backlog', name: 'Waiting', colour: '--first', fill: '--first-soft' }],
  },
  {
    title: 'Event to SNS',
    read: duration,
    logarithmic: true,
    lines: [
      { of: 'p50', name: 'Median', colour: '--first' },
      { of: 'p99', name: '99 %', colour: '--second', dash: [6, 3] },
    ],
  },
];

/** Makes the plots in an element; answers what draws samples, oldest first, and what sets the time shown in seconds. */
export function createPlots(parent) {
  let samples = [];
  let seconds = 3_600;
  const plots = PLOTS.map((definition) => createPlot(parent, definition, () => seconds));
  const draw = () => {
    for (const plot of plots) plot.draw(samples);
  };
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  return {
    draw(list) {
      samples = list;
      draw();
    },
    show(range) {
      seconds = range;
      draw();
    },
  };
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

function createPlot(parent, { title, read, logarithmic = false, lines }, seconds) {
  const readouts = lines.map(({ name, colour, dash }) => {
    const value = make('b', {}, '—');
    const key = make('span', { class: dash ? 'key dashed' : 'key', data: { colour } });
    return { value, element: make('span', {}, key, `${name} `, value) };
  });
  const when = make('span', { class: 'quiet' });
  const canvas = make('div', { class: 'canvas' });
  canvas.setAttribute('role', 'img');
  const caption = make('figcaption', {}, make('strong', {}, title), ...readouts.map(({ element }) => element), when);
  parent.append(make('figure', {}, caption, canvas));

  let samples = [];
  const showValues = (index) => {
    const sample = samples[index ?? samples.length - 1];
    lines.forEach(({ of }, line) => {
      const value = sample?.[of];
      setText(readouts[line].value, value === undefined || value === null ? '—' : read(value));
    });
    setText(when, index === null || index === undefined ? '' : clock(sample.at));
  };
  const plot = new UPlot(
    {
      width: canvas.clientWidth || 300,
      height: HEIGHT,
      // Half a label of the last tick reaches beyond the end of the axis.
      padding: [8, 22, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: 'flow' }, drag: { setScale: false }, points: { size: 6 } },
      scales: {
        x: { time: true, range: () => [now() / 1_000 - seconds(), now() / 1_000] },
        y: scale(logarithmic),
      },
      axes: [
        axis({ space: 44, size: 28, values: (_, ticks) => ticks.map((at) => clock(at * 1_000).slice(0, 5)) }),
        axis({ size: 56, values: labels(read), grid: logarithmic ? { filter: powersOfTen } : {} }),
      ],
      series: [{}, ...lines.map(series)],
      hooks: { setCursor: [(plot) => showValues(plot.cursor.idx)] },
    },
    [[], ...lines.map(() => [])],
    canvas,
  );
  new ResizeObserver(() => plot.setSize({ width: canvas.clientWidth, height: HEIGHT })).observe(canvas);

  return {
    draw(list) {
      samples = list;
      plot.setData([
        list.map(({ at }) => at / 1_000),
        ...lines.map(({ of }) => list.map((sample) => positive(sample[of], logarithmic))),
      ]);
      if (plot.cursor.idx === null || plot.cursor.idx === undefined) showValues();
      canvas.setAttribute('aria-label', describe(title, lines, list, read));
    },
  };
}

/** A logarithm needs more than nothing: what took less than 1 ms is drawn as 1 ms. */
const positive = (value, logarithmic) => (logarithmic && value !== null ? Math.max(value, 1) : value);

const scale = (logarithmic) =>
  logarithmic
    ? {
        distr: 3,
        range: (_, low, high) => [
          Math.max(1, 10 ** Math.floor(Math.log10(low ?? 1))),
          Math.max(100, (high ?? 0) * 1.5),
        ],
      }
    : { range: (_, __, high) => [0, Math.max(5, (high ?? 0) * 1.1)] };

const labels = (read) => (_, ticks) => ticks.map((value) => (value === null ? '' : read(value).replace('/s', '')));

const powersOfTen = (_, ticks) => ticks.map((value) => (Number.isInteger(Math.log10(value)) ? value : null));

const axis = ({ grid, ...more }) => ({
  stroke: () => colour('--quiet'),
  grid: { stroke: () => colour('--line'), width: 1, ...grid },
  ticks: { show: false },
  font: '12px system-ui, sans-serif',
  ...more,
});

const series = ({ name, colour: stroke, dash, fill }) => ({
  label: name,
  stroke: () => colour(stroke),
  fill: fill && (() => colour(fill)),
  dash,
  width: 1.5,
  // A line is drawn between points: one that stands alone, as after an outage, is drawn as itself.
  points: { show: true, size: 5, filter: lonePoints },
});

/** The places of a series' values that have none beside them. */
function lonePoints(plot, index) {
  const values = plot.data[index];
  const isEmpty = (value) => value === null || value === undefined;
  return [...values.keys()].filter(
    (place) => !isEmpty(values[place]) && isEmpty(values[place - 1]) && isEmpty(values[place + 1]),
  );
}

/** The plot for those who can't see it. */
function describe(title, lines, samples, read) {
  const parts = lines.map(({ of, name }) => {
    const values = samples.map((sample) => sample[of]).filter((value) => value !== null);
    if (values.length === 0) return `${name}: none`;
    return `${name}: now ${read(values.at(-1))}, at most ${read(values.reduce((a, b) => Math.max(a, b)))}`;
  });
  return `${title} over the last hour. ${parts.join('; ')}.`;
}
