import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Circumstances, Failure } from './failure.ts';
import { verdictOf } from './verdict.ts';

const HERE: Circumstances = {
  endpoint: new URL('https://sns.eu-west-1.amazonaws.com'),
  region: 'eu-west-1',
  accountId: '123456789012',
  credentials: 'static',
};

const request = (status: number, code: string, message = 'why'): Failure => ({
  kind: 'request',
  status,
  code,
  message,
});
const entry = (code: string, senderFault: boolean): Failure => ({ kind: 'entry', code, message: 'why', senderFault });
const kind = (failure: Failure) => verdictOf(failure, HERE).kind;

describe('the verdict', () => {
  it('retries after network errors, server errors and throttling', () => {
    assert.equal(kind({ kind: 'network', code: 'ECONNRESET', message: '' }), 'retry');
    for (const [status, code] of [
      [500, 'InternalError'],
      [500, 'InternalFailure'],
      [503, 'ServiceUnavailable'],
      [400, 'Throttling'],
      [400, 'ThrottlingException'],
      [429, 'Throttled'],
      [400, 'KMSThrottling'],
    ] as const)
      assert.equal(kind(request(status, code)), 'retry', code);
    assert.equal(kind(entry('InternalError', false)), 'retry');
    assert.equal(kind(entry('WhateverItIs', false)), 'retry');
  });

  it('distinguishes throttling from other errors', () => {
    const throttled = (failure: Failure) => {
      const verdict = verdictOf(failure, HERE);
      return verdict.kind === 'retry' && verdict.throttled;
    };
    assert.equal(throttled(request(400, 'Throttling')), true);
    assert.equal(throttled(request(429, 'SomethingNew')), true);
    assert.equal(throttled(entry('Throttled', true)), true);
    assert.equal(throttled(request(503, 'ServiceUnavailable')), false);
  });

  it('pauses, with advice, if an operator has to act', () => {
    for (const [status, code] of [
      [403, 'AuthorizationError'],
      [403, 'AccessDenied'],
      [403, 'AccessDeniedException'],
      [404, 'NotFound'],
      [404, 'NotFoundException'],
      [403, 'InvalidClientTokenId'],
      [403, 'SignatureDoesNotMatch'],
      [400, 'EndpointDisabled'],
      [400, 'KMSAccessDenied'],
      [400, 'KMSDisabled'],
      [400, 'KMSInvalidState'],
      [400, 'KMSNotFound'],
      [403, 'KMSOptInRequired'],
      [403, 'SomethingNew'],
      [403, 'ExpiredToken'],
      [400, 'RequestExpired'],
      [404, 'SomethingNew'],
    ] as const) {
      const verdict = verdictOf(request(status, code), HERE);
      assert.equal(verdict.kind, 'pause', code);
      assert.ok(verdict.advice.length > 10, code);
    }
    assert.equal(kind({ kind: 'credentials', code: 'NoCredentials', message: '' }), 'pause');
    assert.equal(kind(entry('KMSAccessDenied', true)), 'pause');
  });

  it('pauses for an answer that is not from SNS, unless it is temporary', () => {
    const foreign = (status: number) =>
      kind({ kind: 'foreign', status, code: `HTTP${status}`, server: '', contentType: '' });
    for (const status of [301, 400, 403, 404, 407]) assert.equal(foreign(status), 'pause', String(status));
    for (const status of [200, 429, 500, 502, 503, 504]) assert.equal(foreign(status), 'retry', String(status));
  });

  it('does not blame a message for an ARN that SNS refuses', () => {
    assert.equal(kind(request(400, 'InvalidParameter', 'Invalid parameter: TopicArn')), 'pause');
  });

  it('makes a dead letter of messages that SNS never accepts', () => {
    for (const code of ['InvalidParameter', 'InvalidParameterValue', 'ParameterValueInvalid', 'BatchRequestTooLong']) {
      assert.equal(kind(request(400, code)), 'dead', code);
      assert.equal(kind(entry(code, true)), 'dead', code);
    }
  });

  it('a verdict names reason and detail', () => {
    assert.deepEqual(verdictOf(request(400, 'InvalidParameter', 'too long'), HERE), {
      kind: 'dead',
      reason: 'InvalidParameter',
      detail: 'HTTP 400: too long',
      shown: 'HTTP 400: too long; SNS refuses what is in the message',
      advice: "read SNS's message, and correct the plugin or the client that makes such messages",
    });
  });
});

describe('what is shown of a verdict', () => {
  it("never shows SNS's message about an entry, which may quote the notification", () => {
    const failure: Failure = {
      kind: 'entry',
      code: 'InternalError',
      message: 'can not take "secret body"',
      senderFault: false,
    };
    const { shown, detail } = verdictOf(failure, HERE);
    assert.match(detail, /secret body/);
    assert.doesNotMatch(shown, /secret body/);
  });
});
