/** The plots of the last hour: events in and out, the backlog, and latency. */
import { clock, make, moment, now, setText } from './dom.js';
import { count, duration, rate } from './format.js';
import UPlot from './uplot.js';

const HEIGHT = 170;
/** The values of each plot, by their names in a sample, and their format. Lines differ in more than colour. */
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

/**
 * Creates the plots in an element. Returns functions to draw samples, oldest first, and to set the range in seconds.
 */
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

/** Creates the history's plots in an element. Returns a function to draw spans, oldest first, with marks. */
export function createSpanPlots(parent) {
  let seconds = 86_400;
  let spans = [];
  let marks = [];
  const options = { label: spanLabel, marks: () => marks, key: 'history', over: () => spanName(seconds) };
  const plots = PLOTS.map((definition) => createPlot(parent, definition, () => seconds, options));
  const draw = () => {
    for (const plot of plots) plot.draw(spans);
  };
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  return {
    show(range, list, happened) {
      seconds = range;
      spans = list;
      marks = happened;
      draw();
    },
  };
}

const DAY = new Intl.DateTimeFormat('en', { month: 'short', day: 'numeric' });
const spanLabel = (at, plot) =>
  plot.scales.x.max - plot.scales.x.min > 172_800 ? DAY.format(at) : clock(at).slice(0, 5);
const spanName = (seconds) => (seconds > 86_400 ? 'the last 30 days' : 'the last 24 hours');

const FLOW = { label: (at) => clock(at).slice(0, 5), marks: () => [], key: 'flow', over: () => 'the last hour' };

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

function createPlot(parent, { title, read, logarithmic = false, lines }, seconds, { label, marks, key, over } = FLOW) {
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

  const whenOf = (at) => [key === 'flow' ? clock(at) : moment(at), ...marksNear(at)].join(', ');
  const marksNear = (at) =>
    marks()
      .flatMap((mark) => (Math.abs(mark.at - at) < seconds() * 4 ? [mark.text] : []))
      .slice(0, 3);
  let samples = [];
  const showValues = (index) => {
    const sample = samples[index ?? samples.length - 1];
    lines.forEach(({ of }, line) => {
      const value = sample?.[of];
      setText(readouts[line].value, value === undefined || value === null ? '—' : read(value));
    });
    setText(when, index === null || index === undefined || !sample ? '' : whenOf(sample.at));
  };
  const plot = new UPlot(
    {
      width: canvas.clientWidth || 300,
      height: HEIGHT,
      // Half of the last tick's label extends beyond the axis.
      padding: [8, 22, 0, 0],
      legend: { show: false },
      cursor: { sync: { key }, drag: { setScale: false }, points: { size: 6 } },
      scales: {
        x: { time: true, range: () => [now() / 1_000 - seconds(), now() / 1_000] },
        y: scale(logarithmic),
      },
      axes: [
        axis({ space: 44, size: 28, values: (plot, ticks) => ticks.map((at) => label(at * 1_000, plot)) }),
        axis({ size: roomFor, values: labels(read), grid: logarithmic ? { filter: powersOfTen } : {} }),
      ],
      series: [{}, ...lines.map(series)],
      hooks: { setCursor: [(plot) => showValues(plot.cursor.idx)], draw: [(plot) => drawMarks(plot, marks())] },
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
      canvas.setAttribute('aria-label', `${describe(title, lines, list, read, over())}${describeMarks(marks())}`);
    },
  };
}

/** Draws a vertical line at each incident. */
function drawMarks({ ctx, bbox, valToPos }, marks) {
  ctx.save();
  for (const { at, tone } of marks) {
    const x = Math.round(valToPos(at / 1_000, 'x', true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = colour(TONES[tone]);
    ctx.fillStyle = ctx.strokeStyle;
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.fillRect(x - 3 * devicePixelRatio, bbox.top, 6 * devicePixelRatio, 4 * devicePixelRatio);
  }
  ctx.restore();
}

const TONES = { good: '--good', warn: '--warn', bad: '--bad', note: '--quiet' };

const describeMarks = (marks) => {
  if (marks.length === 0) return '';
  const counts = Object.entries(Object.groupBy(marks, ({ text }) => text)).map(([text, of]) => `${text}: ${of.length}`);
  return ` Marked: ${counts.join(', ')}.`;
};

/** A logarithmic axis has no 0: less than 1 ms is drawn as 1 ms. */
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

/** Fits the longest label, at about 7 px per character: a million waiting must be readable. */
const roomFor = (_, values) => Math.max(56, ...(values ?? []).map((text) => 7 * (text?.length ?? 0) + 14));

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
  // Lines are drawn between points: a single point, as after an outage, gets a dot.
  points: { show: true, size: 5, filter: lonePoints },
});

/** Indexes of values without a neighbour. */
function lonePoints(plot, index) {
  const values = plot.data[index];
  const isEmpty = (value) => value === null || value === undefined;
  return [...values.keys()].filter(
    (place) => !isEmpty(values[place]) && isEmpty(values[place - 1]) && isEmpty(values[place + 1]),
  );
}

/** Describes the plot for screen readers. */
function describe(title, lines, samples, read, over) {
  const parts = lines.map(({ of, name }) => {
    const values = samples.map((sample) => sample[of]).filter((value) => value !== null);
    if (values.length === 0) return `${name}: none`;
    return `${name}: now ${read(values.at(-1))}, at most ${read(values.reduce((a, b) => Math.max(a, b)))}`;
  });
  return `${title} over ${over}. ${parts.join('; ')}.`;
}
