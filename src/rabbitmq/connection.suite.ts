import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { until } from '../../test/support/process.ts';
import type { RabbitServer } from '../../test/support/rabbitmq.ts';
import { sharedRabbit } from '../../test/support/shared-rabbit.ts';
import { SILENT } from '../log.ts';
import {
  type Broker,
  type BrokerOptions,
  connectBroker,
  connectOnce,
  openChannel,
  openConfirmChannel,
} from './connection.ts';
import { explain } from './explain.ts';

describe('connection to RabbitMQ', () => {
  let rabbit: RabbitServer;
  let vhost: string;
  before(async () => {
    rabbit = await sharedRabbit();
    vhost = await rabbit.vhost();
  });

  const open = (urls: readonly string[], options: Partial<BrokerOptions> = {}): Broker =>
    connectBroker({ urls, name: 'test', log: SILENT, ...options });

  it('tries the next address if one does not answer', async () => {
    await using broker = open(['amqp://127.0.0.1:1/', rabbit.url(vhost), 'amqp://127.0.0.1:1/']);
    await until('a connection', () => broker.connection !== undefined);
    assert.equal(broker.problem, undefined);
  });

  it('reconnects after a loss, and opens its channels again', async () => {
    let opened = 0;
    let closed = 0;
    await using broker = open([rabbit.url(vhost)], {
      opened: async () => void opened++,
      closed: () => void closed++,
    });
    await until('a connection', () => broker.connection !== undefined);
    await rabbit.nodes[0]?.evaluate('rabbit_networking:close_all_connections("of the test").');
    await until('the next one', () => opened === 2 && broker.connection !== undefined);
    assert.equal(closed, 1);
  });

  it('reports the failure of `opened`, and retries', async () => {
    let fail = true;
    await using broker = open([rabbit.url(vhost)], {
      opened: async (connection) => {
        const channel = await openChannel(connection);
        if (fail) await channel.checkQueue('not there');
      },
    });
    await until('the problem', () => broker.problem?.kind === 'missing');
    assert.match(broker.problem?.reason ?? '', /no queue 'not there'/);
    fail = false;
    await until('a connection', () => broker.problem === undefined);
  });

  it('closes although `opened` never ends', async () => {
    const opening = Promise.withResolvers<void>();
    const broker = open([rabbit.url(vhost)], {
      opened: () => {
        opening.resolve();
        return new Promise(() => {});
      },
    });
    await opening.promise;
    await broker.close();
    assert.equal(broker.connection, undefined);
  });

  it('reports an alarm that blocks it, until it ends', async () => {
    await using broker = open([rabbit.url(vhost)]);
    await until('a connection', () => broker.connection !== undefined);
    await rabbit.alarm(true);
    // RabbitMQ blocks whoever publishes.
    const channel = await openChannel(broker.connection ?? assert.fail());
    channel.sendToQueue('nowhere', Buffer.from('x'));
    await until('the alarm', () => broker.problem !== undefined);
    assert.match(broker.problem?.reason ?? '', /memory/);
    await rabbit.alarm(false);
    await until('its end', () => broker.problem === undefined);
  });

  const failing = async (act: () => Promise<unknown>) => {
    const error = await act().then(
      () => assert.fail('it succeeded'),
      (error: unknown) => error,
    );
    return explain(error);
  };

  it('diagnoses wrong credentials, a missing vhost, a closed one, and a port where nothing listens', async () => {
    const kinds = [
      (await failing(() => connectOnce(rabbit.url(vhost, { login: 'guest:wrong' })))).kind,
      (await failing(() => connectOnce(rabbit.url('missing')))).kind,
      (await failing(() => connectOnce('amqp://127.0.0.1:1/'))).kind,
    ];
    assert.deepEqual(kinds, ['credentials', 'vhost', 'network']);
    await rabbit.user('stranger', 'secret', vhost, ['', '', '']);
    const other = await rabbit.vhost();
    const refused = await failing(() => connectOnce(rabbit.url(other, { login: 'stranger:secret' })));
    assert.equal(refused.kind, 'vhost');
    assert.match(refused.advice, /set_permissions/);
  });

  it('names the missing permission', async () => {
    const admin = await connectOnce(rabbit.url(vhost));
    await (await openChannel(admin)).assertQueue('x.there', { durable: true });
    await admin.close();
    const tries = [
      [['', '.*', '.*'], 'configure'],
      [['.*', '', '.*'], 'write'],
      [['.*', '.*', ''], 'read'],
    ] as const;
    for (const [index, [permissions, lacking]] of tries.entries()) {
      const name = `user${index}`;
      await rabbit.user(name, 'secret', vhost, permissions);
      const connection = await connectOnce(rabbit.url(vhost, { login: `${name}:secret` }));
      const problem = await failing(async () => {
        let lost: (error: Error) => void = () => {};
        const end = new Promise<never>((_, reject) => {
          lost = reject;
        });
        end.catch(() => {});
        const channel = await openConfirmChannel(connection, (error) => lost(error ?? new Error('closed')));
        await channel.assertQueue('x.there', { durable: true });
        channel.sendToQueue('x.there', Buffer.from('x'));
        await Promise.race([channel.waitForConfirms(), end]);
        await channel.get('x.there');
      });
      await connection.close();
      assert.equal(problem.kind, 'permission');
      assert.match(problem.reason, new RegExp(`lacks the permission to ${lacking}`));
    }
  });

  it('shows both declarations of a queue that was declared differently', async () => {
    const connection = await connectOnce(rabbit.url(vhost));
    await (await openChannel(connection)).assertQueue('other', { maxLength: 1 });
    const channel = await openChannel(connection);
    const problem = await failing(() => channel.assertQueue('other', { maxLength: 2 }));
    await connection.close();
    assert.equal(problem.kind, 'different');
    assert.match(problem.reason, /x-max-length.*'2'.*'1'/);
  });
});
