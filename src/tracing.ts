/**
 * Traces: passes on a batch's W3C trace context, with its notifications if configured, and creates OpenTelemetry spans
 * if the user has loaded an SDK (`NODE_OPTIONS="--import …"`). Without an SDK the API does nothing.
 * https://www.w3.org/TR/trace-context/ and https://opentelemetry.io/docs/specs/semconv/messaging/
 */
import {
  context,
  type Link,
  ProxyTracerProvider,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  type SpanOptions,
  SpanStatusCode,
  TraceFlags,
  trace,
} from '@opentelemetry/api';
import { messageOf } from './errors.ts';
import type { Notification } from './notification/notification.ts';
import { version } from './version.ts';

const NAME = 'xmpp-event-pusher';
const tracer = trace.getTracer(NAME, version);

/** Whether an SDK is loaded. Without one, spans aren't created. */
function isTraced(): boolean {
  const provider = trace.getTracerProvider();
  return !(provider instanceof ProxyTracerProvider) || provider.getDelegateTracer(NAME, version) !== undefined;
}

const TRACEPARENT = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$/;

/** The name of the message attribute with the trace context. */
const TRACEPARENT_ATTRIBUTE = 'traceparent';

/**
 * Runs the intake of a batch in a span that continues the sender's trace.
 * @param headers of the request, including `traceparent` if the sender traces
 * @param run gets the `traceparent` for the batch's notifications: the span's, or the sender's own without an SDK
 */
export async function receiving<T>(
  headers: Readonly<Record<string, unknown>>,
  source: string,
  count: number,
  run: (traceparent: string | undefined) => Promise<T>,
): Promise<T> {
  if (!isTraced()) return run(given(headers.traceparent));
  const parent = propagation.extract(context.active(), headers);
  const attributes = { 'messaging.system': 'xmpp', 'messaging.batch.message_count': count, 'xmpp.source': source };
  const options: SpanOptions = { kind: SpanKind.CONSUMER, attributes };
  return spanned('receive events', options, parent, (span) => run(contextOf(span) ?? given(headers.traceparent)));
}

/** The outcome of a request to SNS: it failed, or these entries did. */
type Outcome =
  | { readonly failure: { readonly code: string } }
  | { readonly entries: readonly ({ readonly code: string } | undefined)[] };

/**
 * Runs the publishing of a batch in a span that links to the traces of its notifications. It has no parent, because the
 * last event that triggered it is usually unrelated.
 */
export function publishing<T extends Outcome>(
  topicArn: string,
  entries: readonly Notification[],
  run: () => Promise<T>,
): Promise<T> {
  if (!isTraced()) return run();
  const attributes = {
    'messaging.system': 'aws_sns',
    'messaging.operation.type': 'send',
    'messaging.destination.name': topicArn,
    'messaging.batch.message_count': entries.length,
  };
  const options = { kind: SpanKind.PRODUCER, attributes, links: entries.flatMap(linkOf) };
  return spanned('publish notifications', options, ROOT_CONTEXT, async (span) => {
    const outcome = await run();
    const code = failureOf(outcome);
    if (code !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: code });
    return outcome;
  });
}

/** SNS's code only, of the request or its first failed entry: the message may quote the notification. */
const failureOf = (outcome: Outcome): string | undefined =>
  'failure' in outcome ? outcome.failure.code : outcome.entries.find((failure) => failure !== undefined)?.code;

function spanned<T>(
  name: string,
  options: SpanOptions,
  parent: ReturnType<typeof context.active>,
  run: (span: Span) => Promise<T>,
): Promise<T> {
  return tracer.startActiveSpan(name, options, parent, async (span) => {
    try {
      return await run(span);
    } catch (error) {
      span.setStatus({ code: SpanStatusCode.ERROR, message: messageOf(error) });
      throw error;
    } finally {
      span.end();
    }
  });
}

function contextOf(span: Span): string | undefined {
  const { traceId, spanId, traceFlags } = span.spanContext();
  if (!span.isRecording()) return undefined;
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`;
}

const given = (header: unknown): string | undefined =>
  typeof header === 'string' && TRACEPARENT.test(header) ? header : undefined;

function linkOf({ attributes }: Notification): Link[] {
  const value = attributes.find(({ name }) => name === TRACEPARENT_ATTRIBUTE)?.value;
  const [, traceId, spanId, flags] = TRACEPARENT.exec(value ?? '') ?? [];
  if (!traceId || !spanId) return [];
  const traceFlags = Number.parseInt(flags ?? '0', 16) & TraceFlags.SAMPLED;
  return [{ context: { traceId, spanId, traceFlags, isRemote: true } }];
}
