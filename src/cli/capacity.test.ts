import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { withConstants } from '../../scripts/docs.ts';
import { drawCapacity } from './capacity.ts';
import { CONSTANTS } from './capacity-constants.ts';
import { capacityOf, type Demand, quotaOf } from './capacity-model.ts';
import { main } from './main.ts';

const DEMAND: Demand = {
  users: 864_000,
  online: 0.2,
  messages: 80,
  groupMessages: 10,
  logins: 5,
  peak: 3,
  body: 100,
  outage: 24,
  reconnect: 5,
  region: 'us-east-1',
  price: 0.5,
};

describe('capacity', () => {
  it('derives event rates from daily use', () => {
    const { byKind, mean, peak } = capacityOf(DEMAND);
    assert.deepEqual(byKind, { presence: 100, pm: 800, muc: 100 });
    assert.deepEqual([mean, peak], [1_000, 3_000]);
  });

  it('plans one account within its quota, and more beyond', () => {
    const accounts = (region: string, quota?: number) => capacityOf({ ...DEMAND, region, quota }).accounts;
    assert.deepEqual([accounts('us-east-1'), accounts('eu-west-1')], [1, 1]);
    // 3,000/s at the peak, of which an account with 1,500/s takes 1,200.
    assert.equal(accounts('eu-central-1'), 3);
    assert.equal(accounts('eu-north-1'), Math.ceil(3_000 / (quotaOf('eu-north-1') * 0.8)));
    assert.equal(accounts('eu-north-1', 10_000), 1);
  });

  it('plans SQLite for one daemon, and RabbitMQ with at least three daemons and brokers for more', () => {
    const small = capacityOf(DEMAND);
    assert.deepEqual([small.engine, small.daemons, small.brokers, small.partitions], ['sqlite', 1, 0, 0]);
    const asked = capacityOf({ ...DEMAND, engine: 'rabbitmq' });
    assert.deepEqual([asked.daemons, asked.brokers, asked.partitions], [3, 3, 6]);
    const large = capacityOf({ ...DEMAND, users: 86_400_000 });
    assert.equal(large.engine, 'rabbitmq');
    assert.equal(large.clusters, Math.ceil(300_000 / (CONSTANTS.clusterRate.value * 0.6)));
    assert.equal(large.brokers, 3 * large.clusters);
    assert.ok(large.daemons >= large.clusters);
  });

  it('plans disk space for an outage, three times over for RabbitMQ', () => {
    const day = capacityOf(DEMAND);
    assert.equal(day.waiting, 86_400_000);
    const text = 90 / 100;
    assert.ok(Math.abs(day.diskBytes / day.waiting - (CONSTANTS.waitingBytes.value + text * 100)) < 0.01);
    assert.equal(capacityOf({ ...DEMAND, engine: 'rabbitmq' }).diskBytes, 3 * day.diskBytes);
    // An hour may be the busiest one, but brings no more than a day does.
    assert.equal(capacityOf({ ...DEMAND, outage: 1 }).waiting, 3_600 * 3_000);
    assert.equal(capacityOf({ ...DEMAND, outage: 12 }).waiting, 86_400_000);
    assert.equal(capacityOf({ ...DEMAND, outage: 0 }).waiting, 0);
  });

  it('reports that a backlog never shrinks if the quota is below the mean rate', () => {
    assert.equal(capacityOf({ ...DEMAND, peak: 0.1, quota: 1_000 }).drainHours, undefined);
    const { drainHours } = capacityOf({ ...DEMAND, quota: 5_000 });
    assert.ok(drainHours && drainHours > 0 && drainHours < 24);
  });

  it('bills requests, which are fuller at higher rates', () => {
    const few = capacityOf({ ...DEMAND, users: 8_640 });
    assert.equal(few.perRequest, 1);
    assert.ok(Math.abs(few.cost.sns - ((10 * 30 * 86_400) / 1e6) * 0.5) < 0.01);
    const many = capacityOf({ ...DEMAND, users: 8_640_000 });
    assert.ok(many.perRequest > 2 && many.perRequest <= 10, `${many.perRequest}`);
    const { sns, daemons, brokers, disks, total } = many.cost;
    assert.equal(total, sns + daemons + brokers + disks);
  });

  it('plans one daemon and nothing else for 0 users', () => {
    const none = capacityOf({ ...DEMAND, users: 0 });
    assert.deepEqual([none.mean, none.peak, none.daemons, none.accounts, none.diskBytes], [0, 0, 1, 1, 0]);
    assert.doesNotMatch(drawCapacity({ ...DEMAND, users: 0 }, none), /NaN|Infinity|undefined/);
  });

  it('explains each figure', () => {
    const text = drawCapacity({ ...DEMAND, region: 'eu-central-1' }, capacityOf({ ...DEMAND, region: 'eu-central-1' }));
    assert.match(text, /^Notifications +1,000\/s {2}3,000\/s at the peak\n/);
    assert.match(text, /Quota +1,500\/s {2}an account in eu-central-1 by default\n/);
    assert.match(text, /Accounts +3 {2}or regions; or a quota of 3,750\/s\n/);
    assert.match(text, /Disk +24\.2 GB {2}86,400,000 notifications wait after 24 h\n/);
    assert.match(text, /a month\n/);
  });

  it('refuses values that are not numbers', async () => {
    const capacity = (...options: string[]) => main(['node', 'xmpp-event-pusher', 'capacity', ...options]);
    const wrong = [[], ['--users', 'many'], ['--users', '-1'], ['--users', ''], ['--users', '5', '--online', '1.1']];
    for (const options of wrong) assert.equal(await capacity(...options), 2, options.join(' '));
  });

  it('docs/scaling.md names each capacity constant and its source', () => {
    const text = readFileSync(new URL('../../docs/scaling.md', import.meta.url), 'utf8');
    assert.equal(text, withConstants(text), 'run: npm run docs');
    for (const { source } of Object.values(CONSTANTS)) assert.ok(text.includes(source), source);
  });
});
