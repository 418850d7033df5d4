import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { SpanStatusCode, trace } from '@opentelemetry/api';
import { InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { NodeTracerProvider } from '@opentelemetry/sdk-trace-node';
import type { Notification } from './notification/notification.ts';
import { publishing, receiving } from './tracing.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const SENDER = `00-${TRACE}-00f067aa0ba902b7-01`;

const notification = (traceparent?: string): Notification => ({
  eventId: '1',
  topic: 'arn',
  orderKey: 'a',
  at: 0,
  message: '{}',
  attributes: traceparent === undefined ? [] : [{ name: 'traceparent', type: 'String', value: traceparent }],
  bytes: 2,
});

const taken = async () => ({ entries: [undefined] });

const received = (headers: Record<string, unknown>) => receiving(headers, 's', 1, async (traceparent) => traceparent);

describe('tracing without an SDK', () => {
  it("passes on the sender's trace context, if valid", async () => {
    assert.equal(await received({ traceparent: SENDER }), SENDER);
    for (const traceparent of [
      undefined,
      '',
      'x',
      SENDER.toUpperCase(),
      SENDER.replace(TRACE, '0'.repeat(32)),
      [SENDER],
    ])
      assert.equal(await received({ traceparent }), undefined);
  });

  it('changes no result and no error', async () => {
    const outcome = { failure: { code: 'InternalError', message: 'oops' } };
    assert.equal(await publishing('arn', [notification()], async () => outcome), outcome);
    await assert.rejects(
      receiving({}, 's', 1, () => Promise.reject(new Error('full'))),
      /full/,
    );
  });
});

describe('tracing with an SDK', () => {
  const spans = new InMemorySpanExporter();
  const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(spans)] });
  before(() => provider.register());
  after(async () => {
    await provider.shutdown();
    trace.disable();
  });
  beforeEach(() => spans.reset());

  it("continues the sender's trace and passes on its own span", async () => {
    const traceparent = await received({ traceparent: SENDER });
    const [span] = spans.getFinishedSpans();
    assert.equal(span?.spanContext().traceId, TRACE);
    assert.equal(span?.parentSpanContext?.spanId, '00f067aa0ba902b7');
    assert.equal(traceparent, `00-${TRACE}-${span?.spanContext().spanId}-01`);
    assert.equal(span?.attributes['messaging.batch.message_count'], 1);
  });

  it('links a publish to the traces of its events', async () => {
    await publishing('arn:topic', [notification(SENDER), notification(), notification('broken')], taken);
    const [span] = spans.getFinishedSpans();
    assert.deepEqual(
      span?.links.map(({ context }) => context.traceId),
      [TRACE],
    );
    assert.equal(span?.attributes['messaging.destination.name'], 'arn:topic');
  });

  it('does not make a publish a child of the last batch', async () => {
    await receiving({ traceparent: SENDER }, 's', 1, () => publishing('arn', [notification()], taken));
    const span = spans.getFinishedSpans().find(({ name }) => name === 'publish notifications');
    assert.equal(span?.parentSpanContext, undefined);
    assert.notEqual(span?.spanContext().traceId, TRACE);
  });

  it("marks a complete or partial refusal with its code, without SNS's quote", async () => {
    const failure = { code: 'InvalidParameter', message: 'what people wrote' };
    await publishing('arn', [notification()], async () => ({ failure }));
    await publishing('arn', [notification()], async () => ({ entries: [undefined, failure] }));
    await publishing('arn', [notification()], taken);
    assert.deepEqual(
      spans.getFinishedSpans().map(({ status }) => status),
      [
        { code: SpanStatusCode.ERROR, message: 'InvalidParameter' },
        { code: SpanStatusCode.ERROR, message: 'InvalidParameter' },
        { code: SpanStatusCode.UNSET },
      ],
    );
  });

  it('marks a failed span', async () => {
    await assert.rejects(receiving({}, 's', 1, () => Promise.reject(new Error('the outbox is full'))));
    assert.equal(spans.getFinishedSpans()[0]?.status.message, 'the outbox is full');
  });
});
