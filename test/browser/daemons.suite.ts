/** The console's section on daemons that share an outbox, in a real browser and on a real RabbitMQ. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { hasRows, rows, says, shows, useConsole } from '../support/console.ts';
import { consume } from '../support/consumer.ts';
import { admission, letter } from '../support/outbox.ts';
import { until } from '../support/process.ts';
import { openHouse } from '../support/rabbit-outbox.ts';
import { sharedRabbit } from '../support/shared-rabbit.ts';

const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:user_message_sent';
const OTHER = 'http://127.0.0.1:9/other';

describe('the console of a daemon that shares its outbox', () => {
  const pusher = useConsole();

  it('the console lists partitions with daemon, depth and state, and other daemons with dead letters and a link', async () => {
    const rabbit = await sharedRabbit();
    const url = rabbit.url(await rabbit.vhost());
    await using house = await openHouse(url, { partitions: 2, url: OTHER });
    // The topic waits.
    pusher.fault = () => ({ kind: 'error', status: 404, code: 'NotFound' });
    await pusher.start('', `engine = "rabbitmq"\nurl = "${url}"\nprefix = "${house.prefix}"\npartitions = 2`);
    for (const user of ['alice', 'bob', 'carol', 'dave'])
      await pusher.post({ ...says('hello'), from: `${user}@localhost/phone` });
    const page = await pusher.open();
    await page.getByText('Partitions', { exact: true }).last().click();
    const partitions = page.locator('#daemons details tbody tr');
    await until('both partitions', async () => (await partitions.count()) === 2);
    await shows(rows(page, '#daemons').first(), /^\w+ \(this one\)\s+2\s+4\s+0$/);

    const other = await house.open({ daemon: 'other' });
    await other.commit({ ...admission(), deadLetters: [letter('d1'), letter('d2')] });
    await using _consumer = consume(other, TOPIC);
    await hasRows(page, '#daemons', 4);
    const link = page.locator(`#daemons a[href="${OTHER}"]`);
    await until('each to have a partition, and the other its dead letters', async () => {
      const shown = await page.locator('#daemons > table tbody tr').allInnerTexts();
      const numbers = shown.map((text) => text.split('\t').slice(1).map(Number));
      const waiting = numbers.reduce((sum, [, depth = 0]) => sum + depth, 0);
      const letters = numbers.map(([, , count]) => count).toSorted();
      return numbers.every(([share]) => share === 1) && waiting === 4 && letters.join() === '0,2';
    });
    const id = await link.innerText();
    const shown = await partitions.allInnerTexts();
    for (const text of shown)
      assert.match(
        text,
        new RegExp(`^${house.prefix}\\.[0-9a-f]+\\.2\\.[01]\\tuser_message_sent\\t[0-9a-f]+\\t\\d\\tin use$`),
      );
    assert.ok(shown.some((text) => text.includes(id)));

    const status = await pusher.daemon.command('status');
    assert.match(status.output, /DAEMON +PARTITIONS +WAITING +DEAD LETTERS +CONSOLE/);
    assert.match(status.output, new RegExp(`${id} +1 +\\d +2 +${OTHER}`));
    await other.close();
  });
});
