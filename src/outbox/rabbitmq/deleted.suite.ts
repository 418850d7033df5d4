import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import type { Channel } from 'amqplib';
import { consume } from '../../../test/support/consumer.ts';
import { admission, commitAs, ids, insist, notification, TOPIC } from '../../../test/support/outbox.ts';
import { until } from '../../../test/support/process.ts';
import { openHouse } from '../../../test/support/rabbit-outbox.ts';
import type { RabbitServer } from '../../../test/support/rabbitmq.ts';
import { sharedRabbit } from '../../../test/support/shared-rabbit.ts';
import { closeConnection, connectOnce, openChannel } from '../../rabbitmq/connection.ts';
import type { Outbox } from '../outbox.ts';
import { namesOf } from './names.ts';

/** Ids of the daemons that an outbox knows. */
const daemonsOf = (outbox: Outbox) => outbox.health().shared?.daemons.map(({ id }) => id) ?? [];
/** How many partitions have a daemon, as an outbox sees it. */
const servedOf = (outbox: Outbox) => outbox.health().shared?.partitions.filter(({ daemon }) => daemon).length;

describe('the outbox on RabbitMQ, when something of it is deleted', () => {
  let rabbit: RabbitServer;
  let vhost: string;
  before(async () => {
    rabbit = await sharedRabbit();
    vhost = await rabbit.vhost();
  });

  async function operate(act: (channel: Channel) => Promise<unknown>): Promise<void> {
    const connection = await connectOnce(rabbit.url(vhost));
    await act(await openChannel(connection));
    await closeConnection(connection);
  }

  it('daemons find each other again when the exchange of their announcements is deleted', async () => {
    await using house = await openHouse(rabbit.url(vhost));
    const [a, b] = [await house.open({ daemon: 'a' }), await house.open({ daemon: 'b' })];
    await until('both to know both', () => [a, b].every((each) => daemonsOf(each).length === 2));
    await operate((channel) => channel.deleteExchange(namesOf(house.prefix).daemons));
    // Before the next one declares it again.
    await until('the loss', () => [a, b].some((each) => each.fault !== undefined));
    const c = await house.open({ daemon: 'c' });
    await until('all to know all', () => [a, b, c].every((each) => daemonsOf(each).length === 3));
    await Promise.all([a.close(), b.close(), c.close()]);
  });

  it('daemons hear each other again when the queue of their announcements is deleted', async () => {
    await using house = await openHouse(rabbit.url(vhost), { silentMs: 60_000 });
    const a = await house.open({ daemon: 'a' });
    const name = namesOf(house.prefix).daemon(`${daemonsOf(a)[0]}.1`);
    const queue = `rabbit_misc:r(<<"${vhost}">>, queue, <<"${name}">>)`;
    await rabbit.nodes[0]?.evaluate(
      `{ok, Q} = rabbit_amqqueue:lookup(${queue}), rabbit_amqqueue:delete(Q, false, false, <<"test">>).`,
    );
    const b = await house.open({ daemon: 'b' });
    await until('it to hear of another one', () => daemonsOf(a).length === 2);
    await Promise.all([a.close(), b.close()]);
  });

  it('continues when its directory is deleted, also with daemons that know less', async () => {
    await using house = await openHouse(rabbit.url(vhost));
    const outbox = await house.open();
    await using topic = consume(outbox, TOPIC);
    await commitAs(outbox, 's', 'x', 1, admission(notification('s/x/1')));
    await topic.settle(...(await topic.next(1)));
    await operate((channel) => channel.deleteQueue(namesOf(house.prefix).directory));
    const late = await house.open({ daemon: 'late' });
    await commitAs(late, 'other', 'x', 1, admission());
    await commitAs(outbox, 's', 'y', 1, admission(notification('s/y/1')));
    await using more = consume(late, TOPIC);
    await until('it', () => [...topic.held, ...more.held].length === 1);
    await until('both to see all partitions served', () => [outbox, late].every((each) => servedOf(each) === 2));
    const sources = (each: Outbox) =>
      each
        .health()
        .sources.map(({ source, epoch }) => `${source}/${epoch}`)
        .toSorted();
    await until('both to know the sources', () =>
      [outbox, late].every((each) => sources(each).join() === 'other/x,s/x,s/y'),
    );
    await Promise.all([outbox.close(), late.close()]);
  });

  it('continues when its vhost is deleted and added again', async () => {
    const own = await rabbit.vhost();
    await using house = await openHouse(rabbit.url(own));
    const outbox = await house.open();
    await using topic = consume(outbox, TOPIC);
    await commitAs(outbox, 's', 'x', 1, admission(notification('s/x/1')));
    await topic.settle(...(await topic.next(1)));
    await rabbit.nodes[0]?.evaluate(`rabbit_vhost:delete(<<"${own}">>, <<"test">>).`);
    await until('it to be said', () => /vhost/.test(outbox.fault?.message ?? ''));
    await rabbit.addVhost(own);
    await insist(outbox, notification('e2'));
    assert.deepEqual(ids(await topic.next(1)), ['e2']);
    await commitAs(outbox, 's', 'x', 2, admission(notification('s/x/2')));
    assert.deepEqual(ids(await topic.next(1)), ['s/x/2']);
    await outbox.close();
  });

  it('continues when its user is deleted and added again, with the password of the url', async () => {
    await rabbit.user('gone', 'secret', vhost, ['.*', '.*', '.*']);
    await using house = await openHouse(rabbit.url(vhost, { login: 'gone:secret' }));
    const outbox = await house.open();
    await outbox.commit(admission(notification('e1')));
    const removal = 'rabbit_auth_backend_internal:delete_user(<<"gone">>, <<"test">>)';
    await rabbit.nodes[0]?.evaluate(`${removal}, rabbit_networking:close_all_connections("of the test").`);
    await until('it to be said', () => /list_users/.test(outbox.fault?.message ?? ''));
    await rabbit.user('gone', 'other', vhost, ['.*', '.*', '.*']);
    await until('it to be said', () => /list_users/.test(outbox.fault?.message ?? ''));
    await rabbit.nodes[0]?.evaluate(`${removal}.`);
    await rabbit.user('gone', 'secret', vhost, ['.*', '.*', '.*']);
    await insist(outbox, notification('e2'));
    await outbox.close();
  });
});
