/**
 * Message texts and secrets never reach the log, whatever fails. A daemon that logs everything goes through every
 * situation; then its whole output is searched for each body and secret.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { BIN, createDaemon, type Daemon, SECRET, TOPICS } from './support/daemon.ts';
import { launch, until } from './support/process.ts';

/** Texts that must not appear. Distinctive enough to be found in any form, and never part of a name. */
const BODIES = {
  published: 'Zitronenfalter-published',
  pluginFailed: 'Zitronenfalter-plugin-failed',
  malformed: 'Zitronenfalter-malformed',
  refused: 'Zitronenfalter-refused',
  refusedEntry: 'Zitronenfalter-entry-refused',
  retried: 'Zitronenfalter-retried',
  stanza: 'Zitronenfalter-stanza',
  attribute: 'Zitronenfalter-attribute',
  notJson: 'Zitronenfalter-not-json',
  malformedBatch: 'Zitronenfalter-malformed-batch',
};
const SECRETS = {
  tap: SECRET,
  key: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
  keyFromEnvironment: 'Hirschkaefer/secret-access-key',
  sessionToken: 'Hirschkaefer-session-token',
  admin: 'Hirschkaefer-admin-token',
  wrongTap: 'Hirschkaefer-wrong-tap-secret',
  wrongAdmin: 'Hirschkaefer-wrong-admin-token',
};

const PLUGIN = `
export function messageAttributes(topic, from, to, type, stanza) {
  const text = stanza?.getChildText?.('body') ?? '';
  if (text.includes('plugin-failed')) throw new Error('can not take ' + text);
  return { note: '${BODIES.attribute}' };
}`;

/** An SNS that quotes what it refuses, as the real one may do. */
async function quotingSns(t: TestContext) {
  const seen: string[] = [];
  const fails = (response: http.ServerResponse, status: number, code: string, message: string) =>
    response
      .writeHead(status, { 'content-type': 'text/xml' })
      .end(`<ErrorResponse xmlns="x"><Error><Code>${code}</Code><Message>${message}</Message></Error></ErrorResponse>`);
  let denied = true;
  const server = http.createServer((request, response) => {
    let text = '';
    request.setEncoding('utf8').on('data', (chunk) => {
      text += chunk;
    });
    request.on('end', () => {
      const form = new URLSearchParams(text);
      const token = String(request.headers['x-amz-security-token']);
      if (form.get('Action') !== 'PublishBatch') return fails(response, 403, 'AuthorizationError', 'not authorized');
      const messages = [...form].filter(([name]) => name.endsWith('.Message')).map(([, value]) => value);
      seen.push(...messages);
      if (denied) {
        denied = false;
        const quoted = `POST\n/\n\nx-amz-security-token:${token}`;
        return fails(
          response,
          403,
          'SignatureDoesNotMatch',
          `The signature does not match.\n\nThe Canonical String for this request should have been\n'${quoted}'`,
        );
      }
      const quote = messages.join(' ');
      const about = (word: string) => messages.some((message) => message.includes(word));
      if (about('Zitronenfalter-refused'))
        return fails(response, 400, 'InvalidParameter', `Invalid parameter: ${quote}`);
      if (about('retried') && seen.filter((message) => message.includes('retried')).length < 3)
        return response.writeHead(500, { 'content-type': 'text/html' }).end(`<html>${quote}</html>`);
      const result = messages.map((message, id) =>
        message.includes('entry-refused')
          ? `<Failed><member><Id>${id}</Id><Code>ParameterValueInvalid</Code><SenderFault>true</SenderFault><Message>${message}</Message></member></Failed>`
          : `<Successful><member><Id>${id}</Id><MessageId>m</MessageId></member></Successful>`,
      );
      return response.end(
        `<PublishBatchResponse xmlns="x"><PublishBatchResult>${result.join('')}</PublishBatchResult></PublishBatchResponse>`,
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, region: 'eu-west-1', accountId: '123456789012', seen };
}

const message = (user: string, body: string) => ({
  kind: 'message',
  at: Date.now(),
  host: 'localhost',
  type: 'chat',
  from: `${user}@localhost/phone`,
  to: 'bob@localhost',
  body,
  stanza: `<message xmlns="jabber:client"><body>${body}</body><note>${BODIES.stanza}</note></message>`,
});

/** A batch with an event of every outcome. */
const events = () => [
  message('alice', BODIES.published),
  message('carol', BODIES.pluginFailed),
  { ...message('dave', BODIES.malformed), type: 'shout' },
  { ...message('dave', 'x'), kind: BODIES.malformed },
  message('erin', BODIES.refused),
  message('frank', BODIES.refusedEntry),
  message('grace', BODIES.retried),
  { kind: 'presence', at: Date.now(), host: 'localhost', jid: 'alice@localhost/phone', present: true },
];

async function mistreatTap(daemon: Daemon): Promise<void> {
  const statuses = [
    await daemon.post({ source: 's', events: [] }, { authorization: `Bearer ${SECRETS.wrongTap}` }),
    await daemon.post(`{"body": "${BODIES.notJson}"`),
    await daemon.post({ source: 7, body: BODIES.malformedBatch, events: BODIES.malformedBatch }),
    await daemon.post({ source: 's', epoch: 'e', first_seq: 100, events: [] }),
  ].map(({ status }) => status);
  assert.deepEqual(statuses, [401, 400, 400, 200]);
}

/** Uses all of the admin address like an operator; returns the session's secret. */
async function useAdmin(daemon: Daemon): Promise<string> {
  const send = (url: string, headers: Record<string, string>, body?: unknown) =>
    fetch(daemon.adminUrl + url, {
      headers: { 'content-type': 'application/json', ...headers },
      ...(body !== undefined && { method: 'POST', body: JSON.stringify(body) }),
    });
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
  await send('/api/login', {}, { token: SECRETS.wrongAdmin });
  await send('/api/dead-letters', bearer(SECRETS.wrongAdmin));
  const { headers } = await send('/api/login', {}, { token: SECRETS.admin });
  const [cookie = ''] = String(headers.get('set-cookie')).split(';');

  const { letters } = (await (await send('/api/dead-letters', { cookie })).json()) as { letters: { id: number }[] };
  const shown = await Promise.all(
    letters.map(async ({ id }) => (await send(`/api/dead-letters/${id}`, { cookie })).text()),
  );
  for (const body of [BODIES.malformed, BODIES.refused, BODIES.refusedEntry, BODIES.pluginFailed, BODIES.stanza])
    assert.ok(
      shown.some((text) => text.includes(body)),
      `${body} is in no dead letter`,
    );
  const live = await send('/api/live?tail=bodies', { cookie });
  let told = '';
  for await (const chunk of live.body as ReadableStream<Uint8Array>) {
    told += Buffer.from(chunk);
    if (told.includes(BODIES.published)) break;
  }
  // Users may type anything into a filter.
  await send('/api/dead-letters/delete', { cookie }, { reason: 'no such reason' });
  await send(`/api/dead-letters?reason=${BODIES.refused}`, { cookie });
  await send('/api/dead-letters/replay', { cookie }, { ids: letters.map(({ id }) => id).slice(0, 1) });
  for (const url of ['/metrics', '/readyz', '/healthz']) assert.ok((await send(url, {})).status < 504);
  return cookie.split('=')[1] as string;
}

describe('the log', () => {
  it('the log of a full run at level trace contains no body and no secret', async (t) => {
    const sns = await quotingSns(t);
    await using daemon = await createDaemon(sns);
    await writeFile(path.join(daemon.folder, 'plugin.mjs'), PLUGIN);
    const rest = `token = "${SECRETS.admin}"\n[log]\nlevel = "trace"\n`;
    await daemon.configure({ sns: 'plugin_module = "./plugin.mjs"\npublish_retry_count = 1', rest });
    await daemon.start();

    await daemon.post({ source: 's', epoch: 'e', first_seq: 1, events: events() });
    await until(
      'everything to be published or refused',
      async () => {
        const metrics = await (await fetch(`${daemon.adminUrl}/metrics`)).text();
        return /dead_letters_kept 5\n/.test(metrics) && !/outbox_notifications\{[^}]*\} [1-9]/.test(metrics);
      },
      60_000,
    ).catch(async (error: Error) => {
      throw new Error(
        `${error.message}\n${await (await fetch(`${daemon.adminUrl}/metrics`)).text()}\n${daemon.output()}`,
      );
    });
    await daemon.post({ source: 's', epoch: 'e', first_seq: 1, events: events() });
    await mistreatTap(daemon);
    const session = await useAdmin(daemon);
    const replayed = await daemon.command('dead-letters', 'replay', '--all');
    assert.equal(replayed.code, 0);
    await until('the replay', () => daemon.output().split(/dead letter replayed|replay failed/).length > 5);
    process.kill(daemon.pid, 'SIGHUP');
    await until('the reload', () => daemon.output().includes('reloaded'));
    await daemon.stop();

    // The run did exercise all situations.
    for (const body of [BODIES.published, BODIES.refused, BODIES.refusedEntry, BODIES.retried])
      assert.ok(
        sns.seen.some((text) => text.includes(body)),
        `${body} never came to SNS`,
      );
    const output = daemon.output();
    for (const line of [
      'topic paused',
      '"reason":"malformed"',
      'event became a dead letter',
      'notification became a dead letter',
      'wrong secret',
      'batch refused',
      'not JSON',
      'content of a dead letter shown',
      'live tail with message bodies opened',
      'replay of dead letters requested',
    ])
      assert.ok(output.includes(line), `no line says "${line}":\n${output}`);
    assertSilent(output);
    assert.ok(session.length > 20 && !output.includes(session), 'the log holds a session');
  });

  it('the log contains no temporary credentials, although SNS quotes them', async (t) => {
    const sns = await quotingSns(t);
    await using daemon = await createDaemon(sns);
    const env = {
      ...process.env,
      AWS_ACCESS_KEY_ID: 'ASIAIOSFODNN7EXAMPLE',
      AWS_SECRET_ACCESS_KEY: SECRETS.keyFromEnvironment,
      AWS_SESSION_TOKEN: SECRETS.sessionToken,
      AWS_EC2_METADATA_DISABLED: 'true',
    };
    await withoutStaticKeys(daemon, sns);
    const child = await launch(process.execPath, [BIN, 'run', '--config', daemon.configFile], { env });
    t.after(() => child.end('SIGKILL'));
    await until('the tap', async () => (await fetch(`${daemon.adminUrl}/healthz`)).ok);
    await until(
      'the tap',
      async () => (await daemon.post({ source: 's', events: [message('a', BODIES.published)] })).status === 200,
    );
    await until('the refused signature', () => child.output().includes('SignatureDoesNotMatch'));
    const check = await launch(process.execPath, [BIN, 'check', '--config', daemon.configFile], { env });
    await check.exited;
    await child.end('SIGTERM');
    assertSilent(child.output() + check.output());
  });

  it('the log of a start that fails for its configuration contains no secret', async (t) => {
    const sns = await quotingSns(t);
    await using daemon = await createDaemon(sns);
    await daemon.configure({
      sns: 'regoin = "x"',
      tap: 'secert = "Hirschkaefer-admin-token"',
      rest: `token = "short"\n`,
    });
    const { code, output } = await daemon.command('run');
    assert.equal(code, 78);
    assert.match(output, /regoin/);
    assertSilent(output);
  });
});

/** The same configuration with credentials from the environment. */
async function withoutStaticKeys(daemon: Daemon, { url }: { url: string }): Promise<void> {
  const port = (from: string) => new URL(from).port;
  await writeFile(
    daemon.configFile,
    `[modules.mod_event_pusher.sns]\npm_messages_topic = "${TOPICS.pm}"\nsns_host = "${url}"\nregion = "eu-west-1"\naccount_id = "123456789012"\ncredentials = "aws"
[tap.http]\nlisten = "127.0.0.1:${port(daemon.tapUrl)}"\nsecret = "${SECRET}"\n[admin]\nlisten = "127.0.0.1:${port(daemon.adminUrl)}"\n[log]\nlevel = "trace"\n`,
  );
}

function assertSilent(output: string): void {
  for (const [what, text] of Object.entries({ ...BODIES, ...SECRETS })) {
    const at = output.indexOf(text);
    assert.ok(at < 0, `the log holds the ${what}: …${output.slice(Math.max(0, at - 300), at + 100)}…`);
  }
  assert.ok(!output.includes('Zitronenfalter') && !output.includes('Hirschkaefer'), 'the log holds a part of one');
}
