/** The files of examples/, used like a user would. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { jid } from '@xmpp/jid';
import { parseConfig } from '../config/load.ts';
import type { MessageEvent } from '../event.ts';
import { type SnsPlugin, toMessageAttributes } from './plugin.ts';
import { loadPlugin } from './plugins.ts';
import { lazyStanza } from './stanza.ts';

const EXAMPLES = fileURLToPath(new URL('../../examples/', import.meta.url));
const CONFIG = `${EXAMPLES}pusher.toml`;

const MESSAGE: MessageEvent = {
  kind: 'message',
  id: 's/x/1',
  at: 1,
  host: 'example.org',
  type: 'chat',
  from: 'alice@example.org/phone',
  to: 'bob@example.net',
  body: 'Hello',
};

describe('examples/plugin.ts', () => {
  let plugin: Required<SnsPlugin>;
  before(async () => {
    plugin = (await loadPlugin('./plugin.ts', CONFIG)) as Required<SnsPlugin>;
  });

  const attributes = async (stanza?: string) => {
    const element = lazyStanza({ ...MESSAGE, stanza });
    const [from, to] = [jid(MESSAGE.from), jid(MESSAGE.to)];
    return toMessageAttributes(await plugin.messageAttributes('arn', from, to, 'pm', element, MESSAGE)).map(
      ({ name, type, value }) => `${name} ${type} ${value}`,
    );
  };

  it('examples/plugin.ts names users', async () => {
    assert.equal(await plugin.userGuid(jid('alice@example.org/phone'), MESSAGE), 'alice');
    assert.equal(await plugin.userGuid(jid('bob@example.net/x'), MESSAGE), 'bob@example.net');
    assert.equal(await plugin.userGuid(jid('example.org'), MESSAGE), 'example.org');
  });

  it('examples/plugin.ts returns attributes that SNS accepts', async () => {
    const online = await plugin.presenceAttributes('arn', jid('alice@example.org/phone'), true, MESSAGE);
    assert.deepEqual(online, { online: 'true', resource: 'phone' });
    assert.deepEqual(toMessageAttributes(await plugin.presenceAttributes('arn', jid('a@b'), false, MESSAGE)).length, 2);
    assert.deepEqual(await attributes(), ['kind String pm', 'domain String example.net']);
    const stanza = `<message><body>Hello</body><thread>t1</thread>
      <x xmlns="jabber:x:oob"><url>https://example.org/1</url></x></message>`;
    assert.deepEqual((await attributes(stanza)).slice(2), ['thread String t1', 'files Number 1']);
  });

  it('examples/plugin.ts filters events', async () => {
    const presence = { kind: 'presence', id: 'x', at: 1, host: 'h', present: true } as const;
    assert.equal(await plugin.filter({ ...presence, jid: 'alice@example.org/x' }), true);
    assert.equal(await plugin.filter({ ...presence, jid: 'monitor@example.org/x' }), false);
    assert.equal(await plugin.filter({ ...MESSAGE, from: 'monitor@example.org/x' }), true);
  });
});

describe('examples/plugin-with-lookup.js', () => {
  let server: http.Server;
  let requests: string[];
  before(async () => {
    requests = [];
    server = http.createServer((request, response) => {
      const user = new URL(String(request.url), 'http://x').searchParams.get('jid');
      requests.push(String(user));
      response.statusCode = requests.length === 1 ? 500 : 200;
      response.end(JSON.stringify({ id: `account of ${user}` }));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    process.env.ACCOUNTS_URL = `http://127.0.0.1:${(server.address() as AddressInfo).port}/accounts`;
  });
  after(() => {
    delete process.env.ACCOUNTS_URL;
    server.close().closeAllConnections();
  });

  it('examples/plugin-with-lookup.js looks up each user once, and again after a failure', async () => {
    const plugin = (await loadPlugin('./plugin-with-lookup.js', CONFIG)) as Required<SnsPlugin>;
    const alice = jid('Alice@example.org/phone');
    await assert.rejects(async () => plugin.userGuid(alice, MESSAGE), { message: /answered 500/ });
    const answers = await Promise.all([
      plugin.userGuid(alice, MESSAGE),
      plugin.userGuid(jid('alice@example.org/laptop'), MESSAGE),
    ]);
    assert.deepEqual(answers, ['account of alice@example.org', 'account of alice@example.org']);
    await plugin.userGuid(alice, MESSAGE);
    assert.deepEqual(requests, ['alice@example.org', 'alice@example.org']);
  });
});

describe('examples/pusher.toml', () => {
  it('examples/pusher.toml is accepted', () => {
    const environment = {
      AWS_ACCESS_KEY_ID: 'AKIAIOSFODNN7EXAMPLE',
      AWS_SECRET_ACCESS_KEY: 'secret',
      TAP_SECRET: 'secret',
      ADMIN_TOKEN: 'a-token-of-some-length',
    };
    const text = readFileSync(CONFIG, 'utf8');
    const config = parseConfig(text, CONFIG, environment);
    assert.deepEqual(config.ignored, []);
    assert.equal(config.sns?.pm_messages_topic, 'user_message_sent');
    // The commented parts are valid too, each on its own.
    const host = text.slice(text.indexOf('# [[host_config]]')).replaceAll(/^# /gm, '');
    assert.equal(parseConfig(host, CONFIG, {}).hosts.get('customers.example.org')?.credentials, 'aws');
  });
});
