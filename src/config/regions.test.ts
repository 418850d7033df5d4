import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { awsPartitions, partitionsOf } from '../../scripts/partitions.ts';
import { PARTITIONS } from './partitions.ts';
import { bareRegionOf, isAwsHost, partitionOf, regionOfSnsHost, snsHostOf } from './regions.ts';

describe('the partitions', () => {
  it("the partitions match AWS's list; `npm run partitions` renews them", async () => {
    assert.deepEqual(PARTITIONS, partitionsOf(await awsPartitions()));
  });

  it('finds the partition of every AWS region', async () => {
    for (const { id, regions } of await awsPartitions())
      for (const region of Object.keys(regions)) assert.equal(partitionOf(region).name, id, region);
  });
});

describe("AWS's endpoints", () => {
  it("builds SNS's host from region and partition", () => {
    assert.equal(snsHostOf('eu-west-1'), 'sns.eu-west-1.amazonaws.com');
    assert.equal(snsHostOf('cn-north-1'), 'sns.cn-north-1.amazonaws.com.cn');
    assert.equal(snsHostOf('eusc-de-east-1'), 'sns.eusc-de-east-1.amazonaws.eu');
    assert.equal(snsHostOf('us-iso-east-1'), 'sns.us-iso-east-1.c2s.ic.gov');
  });

  it("reads the region from an endpoint's name", () => {
    for (const [host, region] of [
      ['sns.eu-west-1.amazonaws.com', 'eu-west-1'],
      ['sns-fips.us-east-1.amazonaws.com', 'us-east-1'],
      ['sns.eu-west-1.api.aws', 'eu-west-1'],
      ['vpce-0123-abcd.sns.eu-west-1.vpce.amazonaws.com', 'eu-west-1'],
      ['sns.cn-north-1.amazonaws.com.cn', 'cn-north-1'],
      ['sns.us-gov-west-1.amazonaws.com', 'us-gov-west-1'],
      ['sns.eusc-de-east-1.amazonaws.eu', 'eusc-de-east-1'],
      ['sns.us-isob-east-1.sc2s.sgov.gov', 'us-isob-east-1'],
    ] as const)
      assert.equal(regionOfSnsHost(host), region, host);
    for (const host of ['127.0.0.1', 'sns.internal.example.org', 'sqs.eu-west-1.amazonaws.com', 'amazonaws.com'])
      assert.equal(regionOfSnsHost(host), undefined, host);
  });

  it("recognizes AWS's hosts", () => {
    assert.ok(isAwsHost('sqs.eu-west-1.amazonaws.com'));
    assert.ok(!isAwsHost('amazonaws.com.example.org') && !isAwsHost('myamazonaws.com'));
    assert.equal(bareRegionOf('eu-west-1.amazonaws.com'), 'eu-west-1');
    assert.equal(bareRegionOf('sns.eu-west-1.amazonaws.com'), undefined);
  });
});
