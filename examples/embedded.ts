/**
 * The pipeline inside another program: a service that learns of presence and messages elsewhere passes them on in
 * process; adapters may post to it as well.
 *
 *     REGION=eu-west-1 ACCOUNT_ID=123456789012 node embedded.ts
 *
 * `SNS_ENDPOINT` replaces the region's SNS; `TAP_SECRET` opens a tap for adapters on a free port.
 */
import { createPusher, httpTap, type PusherOptions, sqliteOutbox } from 'xmpp-event-pusher';

const {
  REGION = 'eu-west-1',
  ACCOUNT_ID = '123456789012',
  SNS_ENDPOINT,
  TAP_SECRET,
  OUTBOX = 'outbox.db',
} = process.env;

const options: PusherOptions = {
  sns: {
    region: REGION,
    accountId: ACCOUNT_ID,
    topics: { presence: 'user_presence_updated', pm: 'user_message_sent', muc: 'user_messagegroup_sent' },
    attributes: ['event_id'],
    ...(SNS_ENDPOINT !== undefined && {
      endpoint: SNS_ENDPOINT,
      credentials: { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' },
    }),
  },
  outbox: sqliteOutbox({ file: OUTBOX }),
  taps: TAP_SECRET === undefined ? [] : [httpTap({ listen: { host: '127.0.0.1', port: 0 }, secret: TAP_SECRET })],
  plugin: {
    // Users by their plain name; no presence of robots.
    userGuid: (jid) => jid.local,
    filter: (event) => event.kind !== 'presence' || !event.jid.startsWith('robot@'),
  },
};

await using pusher = await createPusher(options);

const delivered = new Promise<void>((resolve) => {
  let count = 0;
  pusher.on('delivered', ({ notification }) => {
    process.stdout.write(`${notification.topic.split(':').at(-1)}\t${notification.message}\n`);
    count += 1;
    if (count === 2) resolve();
  });
});
pusher.on('paused', ({ topic, pause }) => process.stderr.write(`${topic}: ${pause.detail}; ${pause.advice}\n`));

const host = 'example.org';
const receipt = await pusher.receive({
  source: 'my-service',
  events: [
    { kind: 'presence', at: Date.now(), host, jid: 'alice@example.org/web', present: true, sessions: 1 },
    { kind: 'presence', at: Date.now(), host, jid: 'robot@example.org/bot', present: true, sessions: 1 },
    {
      kind: 'message',
      at: Date.now(),
      host,
      type: 'chat',
      from: 'alice@example.org/web',
      to: 'bob@example.org',
      body: 'Hello, Bob',
    },
  ],
});
process.stdout.write(`accepted ${receipt.accepted}\n`);
await delivered;
