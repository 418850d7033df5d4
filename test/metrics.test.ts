/**
 * The files for Prometheus and Grafana, compared with the daemon's real metrics. Needs promtool, from Debian's package
 * prometheus.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Registry } from 'prom-client';
import { parse as parseYaml } from 'yaml';
import { addConditionMetric } from '../src/ops/conditions.ts';
import { addDiskMetrics, addProcessMetrics, createMetrics } from '../src/ops/metrics.ts';
import { createDaemon, type Daemon, TOPICS } from './support/daemon.ts';
import { until } from './support/process.ts';
import { type Sns, startSns } from './support/sns.ts';

const file = (name: string) => fileURLToPath(new URL(`../${name}`, import.meta.url));
const ALERTS = file('deploy/prometheus/alerts.yml');
const DASHBOARD = file('deploy/grafana/xmpp-event-pusher.json');
const OPERATIONS = file('docs/operations.md');

function promtool(args: string[], input = ''): string {
  const { status, stdout, stderr, error } = spawnSync('promtool', args, { input, encoding: 'utf8' });
  assert.ifError(error);
  assert.equal(status, 0, `promtool ${args.join(' ')}:\n${stdout}${stderr}`);
  return stdout + stderr;
}

interface Rule {
  alert: string;
  expr: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
}

async function alertRules(): Promise<Rule[]> {
  const { groups } = parseYaml(await readFile(ALERTS, 'utf8')) as { groups: { rules: Rule[] }[] };
  return groups.flatMap(({ rules }) => rules);
}

interface Panel {
  title: string;
  gridPos: { x: number; y: number; w: number; h: number };
  targets: { expr: string; legendFormat?: string }[];
}

interface Dashboard {
  panels: Panel[];
  annotations: { list: { expr: string; textFormat: string }[] };
  templating: { list: { query: string | { query: string } }[] };
}

const readDashboard = async (): Promise<Dashboard> => JSON.parse(await readFile(DASHBOARD, 'utf8'));

/** Every metric of the daemon. */
function everyMetric(): Registry {
  const registry = new Registry();
  addProcessMetrics(registry, () => 0);
  addConditionMetric(registry, () => []);
  addDiskMetrics(registry, tmpdir());
  createMetrics(registry).observe(() => ({
    outbox: {
      topics: [],
      sources: [],
      holes: [],
      deadLetters: 0,
      bytes: 0,
      maxBytes: 0,
      oldestAt: undefined,
      fault: undefined,
    },
    topics: [],
    taps: [],
    notReady: [],
  }));
  return registry;
}

/** Label names by metric, including histograms' series and the labels that Prometheus adds. */
function knownSeries(): Map<string, Set<string>> {
  const scraped = ['job', 'instance'];
  const known = new Map([['up', new Set(scraped)]]);
  for (const metric of everyMetric().getMetricsAsArray()) {
    const { name, type, labelNames = [] } = metric as unknown as { name: string; type: string; labelNames?: string[] };
    known.set(name, new Set([...scraped, ...labelNames]));
    if (type !== 'histogram') continue;
    known.set(`${name}_bucket`, new Set([...scraped, ...labelNames, 'le']));
    known.set(`${name}_sum`, new Set([...scraped, ...labelNames]));
    known.set(`${name}_count`, new Set([...scraped, ...labelNames]));
  }
  return known;
}

const known = knownSeries();
const SERIES = /\b(?:xmpp_event_pusher|process|nodejs)_\w+|\bup\b/g;

/** Unknown metrics and labels in an expression, and in a text about its result. */
function problems(expr: string, text = ''): string[] {
  const names = expr.match(SERIES) ?? [];
  const found = names.filter((name) => !known.has(name)).map((name) => `there is no metric ${name}`);
  if (names.length === 0) found.push('it names no metric of the daemon');
  for (const [, name = '', matchers = ''] of expr.matchAll(/(\w+)\{([^}]*)\}/g))
    for (const [, label = ''] of matchers.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g))
      if (!known.get(name)?.has(label)) found.push(`${name} has no label ${label}`);
  const common = (label: string) => names.every((name) => known.get(name)?.has(label));
  for (const [, list = ''] of expr.matchAll(/\b(?:by|without|on)\s*\(([^)]*)\)/g))
    for (const label of list.split(/\s*,\s*/))
      if (!common(label)) found.push(`not every metric has the label ${label}`);
  const kept = /\bby\s*\(([^)]*)\)/.exec(expr)?.[1]?.split(/\s*,\s*/);
  for (const [, label = ''] of text.matchAll(/\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}/g))
    if (kept ? !kept.includes(label) : !common(label)) found.push(`the result has no label ${label}`);
  return found;
}

describe('alert rules', () => {
  it('alert rules are valid, and fire only when they should (promtool test rules)', () => {
    promtool(['check', 'rules', ALERTS]);
    promtool(['test', 'rules', file('deploy/prometheus/alerts.test.yml')]);
  });

  it('the scrape configuration is valid', () => {
    promtool(['check', 'config', file('deploy/prometheus/prometheus.yml')]);
  });

  it('alert rules use existing metrics and labels', async () => {
    for (const { alert, expr, annotations = {} } of await alertRules())
      assert.deepEqual(problems(expr, Object.values(annotations).join(' ')), [], alert);
  });

  it('each alert has a test, and a runbook heading in docs/operations.md', async () => {
    const tests = await readFile(file('deploy/prometheus/alerts.test.yml'), 'utf8');
    const docs = await readFile(OPERATIONS, 'utf8');
    for (const { alert, annotations } of await alertRules()) {
      assert.ok(tests.includes(alert), `${alert} is not tested`);
      assert.equal(
        annotations?.runbook_url,
        `https://github.com/xmpp-event-pusher/xmpp-event-pusher/blob/main/docs/operations.md#${alert.toLowerCase()}`,
      );
      const section = new RegExp(`^### ${alert}\\n\\nMeans: .+\\n\\nWhat to do: .+$`, 'm');
      assert.match(docs, section, `${alert} is not in docs/operations.md`);
    }
  });
});

describe('Grafana dashboard', () => {
  it('the dashboard uses existing metrics and labels', async () => {
    const { panels, annotations, templating } = await readDashboard();
    for (const { title, targets } of panels)
      for (const { expr, legendFormat } of targets) assert.deepEqual(problems(expr, legendFormat), [], title);
    for (const { expr, textFormat } of annotations.list) assert.deepEqual(problems(expr, textFormat), []);
    for (const { query } of templating.list)
      if (typeof query !== 'string') assert.deepEqual(problems(query.query), [], query.query);
  });

  it("Prometheus can parse the dashboard's expressions", async (t) => {
    const folder = await mkdtemp(path.join(tmpdir(), 'pusher-rules-'));
    t.after(() => rm(folder, { recursive: true }));
    const { panels, annotations } = await readDashboard();
    const exprs = [...panels.flatMap(({ targets }) => targets), ...annotations.list].map(({ expr }) => expr);
    const rules = exprs.map((expr, index) => ({
      record: `panel:${index}`,
      expr: expr.replaceAll('$__rate_interval', '1m'),
    }));
    const asRules = path.join(folder, 'dashboard.yml');
    await writeFile(asRules, JSON.stringify({ groups: [{ name: 'dashboard', rules }] }));
    promtool(['check', 'rules', asRules]);
  });

  it('the dashboard shows every metric except those only for alerts', async () => {
    const { panels } = await readDashboard();
    const shown = JSON.stringify(panels);
    const forAlerts = [
      'build_info',
      'outbox_writable',
      'outbox_disk_bytes',
      'outbox_disk_free_bytes',
      'log_lines_lost_total',
      'sources',
    ].map((name) => `xmpp_event_pusher_${name}`);
    for (const { name } of everyMetric().getMetricsAsArray())
      if (name.startsWith('xmpp_') && !forAlerts.includes(name))
        assert.ok(shown.includes(name), `${name} is not shown`);
  });

  it("the dashboard's panels do not overlap", async () => {
    const { panels } = await readDashboard();
    const taken = new Map<string, string>();
    for (const { title, gridPos } of panels) {
      const { x, y, w, h } = gridPos;
      assert.ok(x + w <= 24, title);
      for (let column = x; column < x + w; column++)
        for (let row = y; row < y + h; row++) {
          const cell = `${column}/${row}`;
          assert.equal(taken.get(cell), undefined, `${title} lies on ${taken.get(cell)}`);
          taken.set(cell, title);
        }
    }
  });
});

describe('GET /metrics of a daemon', () => {
  let sns: Sns;
  let daemon: Daemon;
  before(async () => {
    sns = await startSns(Object.values(TOPICS));
    daemon = await createDaemon(sns, { here: true });
    await daemon.start();
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
    await sns[Symbol.asyncDispose]();
  });
  const read = async () => (await fetch(`${daemon.adminUrl}/metrics`)).text();

  it('GET /metrics gives what happened, in a format that Prometheus accepts without warnings', async () => {
    const presence = {
      kind: 'presence',
      at: Date.now(),
      host: 'localhost',
      jid: 'alice@localhost/phone',
      present: true,
    };
    const message = { kind: 'message', at: Date.now(), host: 'localhost', from: 'alice@localhost/phone', body: 'x' };
    const events = [
      presence,
      { ...message, type: 'chat', to: 'bob@localhost' },
      { ...message, type: 'groupchat', to: 'room@muc.localhost' },
      { kind: 'nonsense' },
      { ...presence, jid: 'alice@localhost/laptop', sessions: 2 },
    ];
    await daemon.post({ source: 'test@here', epoch: 'e', first_seq: 1, events });
    await daemon.post({ source: 'test@here', epoch: 'e', first_seq: 1, events });
    await daemon.post({ source: 'test@here', epoch: 'e', first_seq: 9, events: [presence] });
    await sns.receive(4);
    const arn = (topic: string) => `arn:aws:sns:${sns.region}:${sns.accountId}:${topic}`;
    const expected = [
      'events_received_total{tap="http",source="test@here",kind="presence"} 3',
      'events_received_total{tap="http",source="test@here",kind="pm"} 1',
      'events_received_total{tap="http",source="test@here",kind="muc"} 1',
      'events_duplicate_total{tap="http",source="test@here"} 5',
      'events_rejected_total{tap="http",source="test@here"} 1',
      'events_skipped_total{kind="presence",reason="not-first-session"} 1',
      'source_holes_total{source="test@here"} 1',
      'source_events_missing_total{source="test@here"} 3',
      'dead_letters_total{topic="",reason="malformed"} 1',
      'dead_letters_kept 1',
      `notifications_total{topic="${arn(TOPICS.presence)}",outcome="delivered",reason=""} 2`,
      `event_to_sns_seconds_count{topic="${arn(TOPICS.pm)}"} 1`,
      `publish_batch_size_sum{topic="${arn(TOPICS.muc)}"} 1`,
      `topic_paused{topic="${arn(TOPICS.muc)}",reason=""} 0`,
      'ready 1',
      'outbox_writable 1',
    ].map((line) => `xmpp_event_pusher_${line}`);
    let text = '';
    const missing = () => expected.filter((line) => !text.includes(`${line}\n`));
    await until('every count', async () => {
      text = await read();
      return missing().length === 0;
    }).catch(() => assert.deepEqual(missing(), [], text));
    promtool(['check', 'metrics'], text);
  });

  it('docs/operations.md explains every metric, and no other', async () => {
    const ours = [...(await read()).matchAll(/^# HELP xmpp_event_pusher_(\w+)/gm)].map(([, name]) => name);
    const docs = await readFile(OPERATIONS, 'utf8');
    const explained = [...docs.matchAll(/^\| `([a-z_]+)(?:\{[^`]*\})?` \| (?:counter|gauge|histogram)/gm)];
    assert.deepEqual(explained.map(([, name]) => name).sort(), ours.sort());
  });
});
