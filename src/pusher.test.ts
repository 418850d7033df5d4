import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Registry } from 'prom-client';
import { turns } from '../test/support/consumer.ts';
import { letter, notification } from '../test/support/outbox.ts';
import { launch, until } from '../test/support/process.ts';
import { startStubSns } from '../test/support/stub-sns.ts';
import type { PusherError } from './errors.ts';
import { SILENT } from './log.ts';
import type { Notification } from './notification/notification.ts';
import { memoryOutbox } from './outbox/memory.ts';
import type { Outbox } from './outbox/outbox.ts';
import { sqliteOutbox } from './outbox/sqlite/sqlite.ts';
import type { Sink, Verdict } from './pipeline/sink.ts';
import { createPusher, type PusherOptions, type SinkSettings } from './pusher.ts';
import { httpTap } from './taps/http/http.ts';

const TOPICS = { presence: 'presence', pm: 'pm', muc: 'muc' };
const message = (body: string, host = 'localhost') => ({
  kind: 'message',
  at: 1_763_820_191_340,
  host,
  type: 'chat',
  from: 'alice@localhost/phone',
  to: 'bob@localhost',
  body,
});
const DENIED: Verdict = { kind: 'pause', reason: 'Denied', detail: 'no', shown: 'no', advice: 'say please' };
const REFUSED: Verdict = { kind: 'dead', reason: 'Refused', detail: 'never', shown: 'refused', advice: '' };

/** A sink that accepts everything unless `verdict` says otherwise. */
function collect(verdict: (notification: Notification) => Verdict | undefined = () => undefined) {
  const taken: Notification[] = [];
  const sink: Sink = {
    limits: () => ({ maxEntries: 10, maxBytes: 262_144 }),
    async publish(_, entries) {
      const verdicts = entries.map(verdict);
      taken.push(...entries.filter((_, index) => !verdicts[index]));
      return verdicts;
    },
  };
  return { taken, settings: { sink, topics: TOPICS } satisfies SinkSettings };
}

const bodies = (list: readonly Notification[]) => list.map(({ message }) => JSON.parse(message).message);

describe('a pusher in a host program', () => {
  let folder: string;
  let files = 0;
  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'pusher-'));
  });
  after(() => rmSync(folder, { recursive: true }));
  const newFile = () => path.join(folder, `${++files}.db`);

  it("accepts events in process, and returns a tap's receipt", async () => {
    const { taken, settings } = collect();
    await using pusher = await createPusher({ sink: settings, outbox: sqliteOutbox({ file: newFile() }) });
    const numbering = { epoch: 'x', first: 1 };
    const events = [message('1'), { ...message('2'), from: 'a b@c' }];
    const receipt = await pusher.receive({ source: 's', numbering, events });
    assert.deepEqual(receipt, {
      accepted: 1,
      duplicates: 0,
      rejected: [{ index: 1, reason: 'from: should be a JID' }],
    });
    assert.deepEqual((await pusher.receive({ source: 's', numbering, events })).duplicates, 2);
    await until('it to arrive', () => taken.length === 1);
    assert.deepEqual(bodies(taken), ['1']);
    assert.equal(taken[0]?.eventId, 's/x/1');
  });

  for (const [what, batch, reason] of [
    ['no source', { source: '' }, /^source: should be the name of the sending server node, not empty$/],
    [
      'a fraction',
      { source: 's', numbering: { epoch: 'x', first: 0.5 } },
      /^numbering\.first: should be a whole number$/,
    ],
    ['an epoch with a line break', { source: 's', numbering: { epoch: 'a\nb', first: 1 } }, /^numbering\.epoch: /],
  ] as const)
    it(`refuses a batch with ${what}, and says why`, async () => {
      await using pusher = await createPusher({ outbox: memoryOutbox() });
      const refused = await pusher.receive({ ...batch, events: [message('1')] }).catch((error: PusherError) => error);
      assert.equal((refused as PusherError).code, 'BATCH_INVALID');
      assert.match((refused as PusherError).message, reason);
    });

  it('calls its listeners for deliveries, dead letters, pauses and resumptions', async () => {
    let denied = true;
    const { settings } = collect(({ message }) => {
      if (message.includes('dead')) return REFUSED;
      return denied && message.includes('wait') ? DENIED : undefined;
    });
    await using pusher = await createPusher({ sink: settings, outbox: memoryOutbox() });
    const told: string[] = [];
    pusher.on('delivered', ({ notification }) => told.push(`delivered ${bodies([notification])}`));
    pusher.on('deadLetter', ({ reason }) => told.push(`dead ${reason}`));
    pusher.on('paused', ({ topic, pause }) => told.push(`paused ${topic}: ${pause.reason}: ${pause.advice}`));
    pusher.on('resumed', ({ topic }) => told.push(`resumed ${topic}`));
    await pusher.receive({ source: 's', events: [message('dead')] });
    await until('the dead letter', () => told.length === 1);
    await pusher.receive({ source: 's', events: [message('wait')] });
    await until('the pause', () => told.length === 2);
    assert.deepEqual(
      pusher.state().notReady.map(({ what, reason }) => `${what} ${reason}`),
      ['topic pm paused: Denied: no'],
    );
    denied = false;
    assert.equal(pusher.tryTopic('pm'), true);
    await until('all of it', () => told.length === 4);
    assert.deepEqual(told, ['dead Refused', 'paused pm: Denied: say please', 'delivered wait', 'resumed pm']);
  });

  it('a throwing or removed listener stops nothing', async () => {
    const { taken, settings } = collect();
    const logged: object[] = [];
    const log = { ...SILENT, error: (fields: object) => void logged.push(fields) };
    await using pusher = await createPusher({ sink: settings, outbox: memoryOutbox(), log });
    const listener = () => {
      throw new Error('of the listener');
    };
    pusher.on('delivered', listener);
    await pusher.receive({ source: 's', events: [message('1')] });
    await until('the line', () => logged.length === 1);
    assert.deepEqual(logged, [{ event: 'delivered', problem: 'of the listener' }]);
    pusher.off('delivered', listener);
    await pusher.receive({ source: 's', events: [message('2')] });
    await until('the other', () => taken.length === 2);
    await turns();
    assert.equal(logged.length, 1);
  });

  it('retries when a sink throws', async () => {
    const { taken, settings } = collect();
    let throws = 2;
    const sink: Sink = {
      ...settings.sink,
      publish: async (topic, entries) => {
        if (throws-- > 0) throw new Error('quotes the message');
        return settings.sink.publish(topic, entries);
      },
    };
    const logged: object[] = [];
    const log = { ...SILENT, error: (fields: object) => void logged.push(fields) };
    await using pusher = await createPusher({
      sink: { ...settings, sink, retryBaseMs: 1 },
      outbox: memoryOutbox(),
      log,
    });
    await pusher.receive({ source: 's', events: [message('1')] });
    await until('it to arrive', () => taken.length === 1);
    assert.doesNotMatch(JSON.stringify(logged), /quotes/);
    assert.equal(logged.length, 2);
  });

  it('publishes each virtual host by its own section, with plugins that are objects or files', async () => {
    const general = collect();
    const other = collect();
    await using pusher = await createPusher({
      sink: general.settings,
      hosts: {
        'Other.example.org': {
          ...other.settings,
          topics: { pm: 'other' },
          plugin: { userGuid: (jid) => `other:${jid.local}` },
        },
        'silent.example.org': null,
      },
      plugin: { filter: (event) => event.kind === 'message' && event.body !== 'filtered' },
      outbox: memoryOutbox(),
    });
    const hosts = ['localhost', 'other.example.org', 'silent.example.org'];
    const events = [...hosts.map((host) => message('a', host)), message('filtered')];
    assert.equal((await pusher.receive({ source: 's', events })).accepted, 4);
    await until('both to arrive', () => general.taken.length + other.taken.length === 2);
    assert.equal(
      general.taken[0]?.message,
      '{"to_user_id":"bob@localhost","message":"a","from_user_id":"alice@localhost"}',
    );
    assert.equal(other.taken[0]?.message, '{"to_user_id":"other:bob","message":"a","from_user_id":"other:alice"}');
  });

  it('refuses two sinks with the same topic', async () => {
    const hosts = { 'b.example.org': collect().settings };
    await assert.rejects(createPusher({ sink: collect().settings, hosts, outbox: memoryOutbox() }), {
      code: 'CONFIG_INVALID',
      message: 'the topic "presence" belongs to two sinks; give each sink its own topics',
    });
  });

  it('publishes to Amazon SNS with its settings, and counts in the given registry', async () => {
    const arrived: string[] = [];
    await using sns = await startStubSns({ accepted: ({ message }) => void arrived.push(message) });
    const registry = new Registry();
    const pusher = await createPusher({
      sns: {
        region: 'eu-west-1',
        accountId: '123456789012',
        topics: { pm: 'pm' },
        endpoint: sns.url,
        credentials: async () => ({
          accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
          secretAccessKey: 'wJalrXUtnFEMI',
          sessionToken: 't',
        }),
      },
      outbox: memoryOutbox(),
      metrics: registry,
    });
    await pusher.receive({ source: 's', events: [message('1')] });
    await until('it to arrive', () => arrived.length === 1);
    await until('it to be counted', async () =>
      (await registry.metrics()).includes(
        'xmpp_event_pusher_notifications_total{topic="arn:aws:sns:eu-west-1:123456789012:pm",outcome="delivered",reason=""} 1',
      ),
    );
    assert.doesNotMatch(await registry.metrics(), /^(process|nodejs)_/m);
    await pusher.stop();
    assert.equal(await registry.metrics(), '\n');
  });

  it('chooses topic and FIFO group by templates, and publishes nothing to an unlisted topic', async () => {
    const arrived: string[] = [];
    await using sns = await startStubSns({
      accepted: ({ groupId }, { topicArn }) => void arrived.push(`${topicArn.split(':').at(-1)} ${groupId}`),
    });
    const skipped: unknown[] = [];
    await using pusher = await createPusher({
      sns: {
        region: 'eu-west-1',
        accountId: '123456789012',
        topics: { pm: 'chat-{host}.fifo' },
        topicNames: ['chat-a-example.fifo', 'chat-b-example.fifo'],
        messageGroupId: '{to.bare}',
        endpoint: sns.url,
        credentials: { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'wJalrXUtnFEMI' },
      },
      outbox: memoryOutbox(),
      report: { skipped: (_, reason) => void skipped.push(reason) },
    });
    const events = ['a.example', 'b.example', 'c.example'].map((host) => message('x', host));
    await pusher.receive({ source: 's', events });
    await until('both to arrive', () => arrived.length === 2);
    const groups = ['chat-a-example.fifo bob@localhost', 'chat-b-example.fifo bob@localhost'];
    assert.deepEqual(arrived.toSorted(), groups);
    assert.deepEqual(skipped, ['no-topic']);
  });

  it('runs beside another pusher, starts and stops repeatedly, and cleans up', async () => {
    const file = newFile();
    const arrived: string[] = [];
    await using sns = await startStubSns({ accepted: ({ message }) => void arrived.push(JSON.parse(message).message) });
    const options = (outbox: Outbox): PusherOptions => ({
      sns: {
        region: 'eu-west-1',
        accountId: '123456789012',
        topics: { pm: 'pm' },
        endpoint: sns.url,
        credentials: { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'wJalrXUtnFEMI' },
      },
      outbox,
      taps: [httpTap({ listen: { host: '127.0.0.1', port: 0 } })],
    });
    const round = async () => {
      await using one = await createPusher(options(sqliteOutbox({ file })));
      await using two = await createPusher(options(memoryOutbox()));
      const before = arrived.length;
      for (const pusher of [one, two]) await pusher.receive({ source: 's', events: [message('x')] });
      await until('both to arrive', () => arrived.length === before + 2);
    };
    // The first round loads modules on demand.
    await round();
    const counts = () => {
      const resources = process
        .getActiveResourcesInfo()
        .filter((name) => !/^(Timeout|Immediate|TickObject|FSReq)/.test(name));
      const listeners = process.eventNames().map((name) => `${String(name)} ${process.listenerCount(name)}`);
      return { resources: resources.toSorted(), listeners, title: process.title };
    };
    const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
    await until('its first connections to be gone', () => !counts().resources.includes('TCPSocketWrap'));
    const before = counts();
    for (let n = 0; n < 3; n++) await round();
    await until('its connections to be gone', () => {
      assert.deepEqual(counts(), before);
      return true;
    });
    await until('its timers to be gone', () => timers() <= 1);
  });

  it('adds no listener, signal handler or global', async () => {
    const script = `
      const { createPusher, memoryOutbox } = await import(${JSON.stringify(new URL('./index.ts', import.meta.url).href)});
      const seen = () => JSON.stringify([process.eventNames().map(String), process.title, process.exitCode ?? null]);
      const before = seen();
      const pusher = await createPusher({ sink: { sink: { limits: () => ({ maxEntries: 1, maxBytes: 9e5 }), publish: async (_, e) => e.map(() => undefined) }, topics: { pm: 'x' } }, outbox: memoryOutbox() });
      const resources = process.getActiveResourcesInfo().filter((name) => /Server|Signal/.test(name));
      process.stdout.write(seen() === before ? 'same\\n' : seen());
      process.stdout.write(JSON.stringify(resources) + '\\n');
      // Nor does anything keep the process alive.
      await pusher.stop();`;
    const child = await launch(process.execPath, ['--input-type=module', '-e', script]);
    assert.equal(await child.exited, 0);
    assert.equal(child.output(), 'same\n[]\n');
  });

  it("closes the outbox if it can't start, and says why", async () => {
    const file = newFile();
    for (const wrong of [
      { sns: { region: 'X', accountId: '1', topics: {} } },
      { plugin: '/no/such/plugin.js', sink: collect().settings },
    ] as const)
      await assert.rejects(createPusher({ ...wrong, outbox: sqliteOutbox({ file }) }));
    const tap = httpTap({ listen: { host: '192.0.2.1', port: 1 }, secret: 'x'.repeat(20) });
    await assert.rejects(createPusher({ outbox: sqliteOutbox({ file }), taps: [tap] }), { code: 'LISTEN_FAILED' });
    const registry = new Registry();
    await using _ = await createPusher({ outbox: memoryOutbox(), metrics: registry });
    await assert.rejects(createPusher({ outbox: sqliteOutbox({ file }), metrics: registry }), /already/);
    await sqliteOutbox({ file }).close();
  });

  it('a stop accepts nothing new, completes open requests, and keeps the rest', async () => {
    const { promise: hold, resolve: letGo } = Promise.withResolvers<void>();
    const { taken, settings } = collect();
    const sink: Sink = {
      ...settings.sink,
      async publish(topic, entries) {
        await hold;
        return settings.sink.publish(topic, entries);
      },
    };
    const file = newFile();
    const pusher = await createPusher({ sink: { ...settings, sink, poolSize: 1 }, outbox: sqliteOutbox({ file }) });
    await pusher.receive({ source: 's', events: [message('1')] });
    await until('a request', () => pusher.underWay() === 1);
    await pusher.receive({ source: 's', events: [message('2')] });
    const stopped = pusher.stop();
    await assert.rejects(pusher.receive({ source: 's', events: [message('3')] }), { code: 'OUTBOX_CLOSED' });
    letGo();
    await stopped;
    await pusher.stop();
    assert.deepEqual(bodies(taken), ['1']);
    const outbox = sqliteOutbox({ file });
    assert.deepEqual(outbox.health().topics, [{ topic: 'pm', depth: 1 }]);
    await outbox.close();
  });

  it('publishes with the new options after a reload, with the old ones if the reload fails', async () => {
    const first = collect();
    const second = collect();
    await using pusher = await createPusher({ sink: first.settings, outbox: memoryOutbox() });
    await assert.rejects(pusher.reload({ sink: second.settings, plugin: '/no/such.js' }), { code: 'PLUGIN_UNUSABLE' });
    await pusher.receive({ source: 's', events: [message('1')] });
    await until('the first', () => first.taken.length === 1);
    await pusher.reload({ sink: second.settings });
    await pusher.receive({ source: 's', events: [message('2')] });
    await until('the second', () => second.taken.length === 1);
    assert.equal(first.taken.length, 1);
  });

  it('survives a stop during a reload', async () => {
    const { promise: hold, resolve: letGo } = Promise.withResolvers<void>();
    const order: string[] = [];
    const { settings } = collect();
    const sink: Sink = {
      ...settings.sink,
      async publish(_, entries) {
        await hold;
        order.push('request ended');
        return entries.map(() => undefined);
      },
    };
    const outbox = memoryOutbox();
    const close = outbox.close.bind(outbox);
    outbox.close = async () => {
      order.push('outbox closed');
      await close();
    };
    const pusher = await createPusher({ sink: { ...settings, sink }, outbox });
    await pusher.receive({ source: 's', events: [message('1')] });
    await until('a request', () => pusher.underWay() === 1);
    const reloading = pusher.reload({ sink: settings });
    await turns();
    assert.equal(pusher.underWay(), 1, 'what is under way shows while the old one ends');
    const stopping = pusher.stop();
    await turns();
    letGo();
    await Promise.all([reloading, stopping]);
    assert.deepEqual(order, ['request ended', 'outbox closed']);
  });

  it('replays dead letters at once, and those of the last run at its start', async () => {
    const { taken, settings } = collect();
    const file = newFile();
    {
      const outbox = sqliteOutbox({ file });
      const content = { kind: 'notification', notification: notification('left', { topic: 'pm' }) } as const;
      await outbox.deadLetters.put([
        letter('left', { content }),
        letter('later', { content: { kind: 'raw', event: message('m') } }),
      ]);
      await outbox.deadLetters.requestReplay({ upToId: 1 });
      await outbox.close();
    }
    await using pusher = await createPusher({ sink: settings, outbox: sqliteOutbox({ file }) });
    await until('the one of the last run', () => taken.length === 1);
    assert.equal(await pusher.replay({}), 1);
    await until('the other', () => taken.length === 2);
    assert.deepEqual(await pusher.deadLetters.counts(), []);
  });
});
