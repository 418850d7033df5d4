import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Circumstances } from '../failure.ts';
import type { Diagnosis } from './diagnosis.ts';
import { clockProblem, endpointProblem } from './endpoint.ts';

const circumstances: Circumstances = {
  endpoint: new URL('https://sns.eu-west-1.amazonaws.com'),
  region: 'eu-west-1',
  accountId: '123456789012',
  credentials: 'static',
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  secretLength: 40,
  configFile: 'pusher.toml',
};

/** A diagnosis as one text, for matching. */
const said = (diagnosis: Diagnosis | undefined): string =>
  diagnosis ? `${diagnosis.level}: ${diagnosis.seen} | ${diagnosis.means} | ${diagnosis.advice}` : 'nothing';

describe('the endpoint', () => {
  const at = (url: string) => said(endpointProblem({ ...circumstances, endpoint: new URL(url) }));

  it('reports an endpoint of another region with both remedies', () => {
    assert.match(
      at('https://sns.us-east-1.amazonaws.com'),
      /^fail: .*sns\.us-east-1.*region is eu-west-1.*region = "us-east-1".*sns_host = "sns\.eu-west-1\.amazonaws\.com"/,
    );
  });

  it('reports an endpoint of another AWS service', () => {
    assert.match(at('https://sqs.eu-west-1.amazonaws.com'), /^fail: .*sns_host = "sns\.eu-west-1\.amazonaws\.com"/);
  });

  it("warns of an unencrypted endpoint, but only of AWS's", () => {
    assert.match(at('http://sns.eu-west-1.amazonaws.com'), /^warn: .*unencrypted/);
    assert.equal(at('http://127.0.0.1:4566'), 'nothing');
    assert.equal(at('https://sns.eu-west-1.amazonaws.com'), 'nothing');
  });
});

describe('the clock', () => {
  it('warns of a clock that differs, both before and after AWS refuses its time', () => {
    assert.match(said(clockProblem(90_000)), /^warn: this machine's clock is 90 s ahead .*AWS refuses.*NTP/);
    assert.match(said(clockProblem(-420_000)), /^warn: .*7 min behind .*signed with SNS's time instead.*NTP/);
    assert.equal(clockProblem(20_000), undefined);
    assert.equal(clockProblem(undefined), undefined);
  });
});
