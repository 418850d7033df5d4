/**
 * Unwraps envelopes. Each channel wraps a notification in its own way, and envelopes nest: an SQS message holds SNS's,
 * a Firehose record holds it in base64. So each step removes one layer and starts again.
 */
import { toAttributes } from './attributes.ts';
import type { AttributeValue, Delivery, Malformed } from './notification.ts';

/** The innermost JSON, with the facts from the layers around it. */
export interface Enveloped {
  readonly body: Readonly<Record<string, unknown>>;
  readonly attributes: Readonly<Record<string, AttributeValue>>;
  readonly delivery: Delivery;
}

interface Context {
  readonly attributes: Readonly<Record<string, AttributeValue>>;
  readonly delivery: Delivery;
  /** Number of layers removed so far. */
  readonly depth: number;
}

type Json = Readonly<Record<string, unknown>>;
type Items = (Enveloped | Malformed)[];

/** Deeper than any channel nests. */
const MAX_DEPTH = 8;

/** All bodies in a channel's delivery. */
export const unwrap = (input: unknown): Items =>
  input === undefined ? [] : open(input, { attributes: {}, delivery: {}, depth: 0 });

const malformed = (reason: string, { delivery }: Context): Items => [{ kind: 'malformed', reason, delivery }];

function open(input: unknown, context: Context): Items {
  if (context.depth > MAX_DEPTH) return malformed('its envelopes are nested too deep', context);
  const inner = { ...context, depth: context.depth + 1 };
  if (typeof input === 'string') return openText(input, inner);
  if (input instanceof Uint8Array) return openText(Buffer.from(input).toString(), inner);
  if (Array.isArray(input)) return openAll(input, inner);
  if (!isRecord(input)) return malformed('it is not a JSON object', context);
  return openLayer(input, inner) ?? [{ body: input, attributes: context.attributes, delivery: context.delivery }];
}

function openAll(list: readonly unknown[], context: Context): Items {
  return list.flatMap((item) => open(item, context));
}

/** Parses JSON, or one JSON per line, as in Firehose's files. */
function openText(text: string, context: Context): Items {
  const whole = json(text);
  if (whole !== undefined) return open(whole, context);
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  if (lines.length < 2) return malformed('it is not JSON', context);
  return lines.flatMap((line) => {
    const value = json(line);
    return value === undefined ? malformed('it is not JSON', context) : open(value, context);
  });
}

/** The content of one layer; undefined if there is no layer. */
function openLayer(layer: Json, context: Context): Items | undefined {
  // Lambda: SNS and SQS.
  if (Array.isArray(layer.Records)) return openAll(layer.Records, context);
  if (isRecord(layer.Sns)) return open(layer.Sns, context);
  // SNS's envelope.
  if (typeof layer.Type === 'string' && typeof layer.Message === 'string') return openSns(layer, context);
  // An SQS message in the SDK's notation, or an answer with several; the SDK omits an empty list.
  if (Array.isArray(layer.Messages)) return openAll(layer.Messages, context);
  if (isRecord(layer.$metadata)) return [];
  if (typeof layer.Body === 'string') return open(layer.Body, sqsContext(fromSdk(layer), context));
  // An SQS message in the notation of Lambda and Pipes; Pipes parses a JSON body if its template says so.
  if (typeof layer.messageId === 'string' && layer.body !== undefined)
    return open(layer.body, sqsContext(fromLambda(layer), context));
  // Firehose's transformation.
  if (Array.isArray(layer.records)) return openAll(layer.records, context);
  if (typeof layer.recordId === 'string' && typeof layer.data === 'string')
    return open(Buffer.from(layer.data, 'base64'), delivered({ recordId: layer.recordId }, context));
  // EventBridge.
  if (typeof layer['detail-type'] === 'string' && layer.detail !== undefined) return open(layer.detail, context);
  // An HTTP request, including those of API Gateway and function URLs.
  if (isRecord(layer.headers) && layer.body !== undefined) return openRequest(layer.headers, layer, context);
  return undefined;
}

function openSns(envelope: Json, context: Context): Items {
  const { Type, Message, MessageId, TopicArn, Timestamp, MessageAttributes } = envelope;
  const inside = delivered({ messageId: MessageId, topicArn: TopicArn, publishedAt: timeOf(Timestamp) }, context);
  if (Type !== 'Notification') return malformed(`it is SNS's ${Type}`, inside);
  return openBody(Message, { ...inside, attributes: { ...context.attributes, ...toAttributes(MessageAttributes) } });
}

function openRequest(headers: Json, { body, isBase64Encoded }: Json, context: Context): Items {
  const header = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  const inside = delivered(
    { messageId: header.get('x-amz-sns-message-id'), topicArn: header.get('x-amz-sns-topic-arn') },
    context,
  );
  return open(isBase64Encoded === true && typeof body === 'string' ? Buffer.from(body, 'base64') : body, inside);
}

/** A notification's own text: nothing in it counts as an envelope, even if a plugin's ids look like one. */
function openBody(text: unknown, context: Context): Items {
  const body = typeof text === 'string' ? json(text) : undefined;
  if (!isRecord(body)) return malformed('its message is not a JSON object', context);
  return [{ body, attributes: context.attributes, delivery: context.delivery }];
}

interface SqsParts {
  readonly sqsMessageId: unknown;
  readonly receiptHandle: unknown;
  readonly system: unknown;
  readonly attributes: unknown;
}

const fromSdk = ({ MessageId, ReceiptHandle, Attributes, MessageAttributes }: Json): SqsParts => ({
  sqsMessageId: MessageId,
  receiptHandle: ReceiptHandle,
  system: Attributes,
  attributes: MessageAttributes,
});

const fromLambda = ({ messageId, receiptHandle, attributes, messageAttributes }: Json): SqsParts => ({
  sqsMessageId: messageId,
  receiptHandle,
  system: attributes,
  attributes: messageAttributes,
});

function sqsContext({ sqsMessageId, receiptHandle, system, attributes }: SqsParts, context: Context): Context {
  const { MessageGroupId, ApproximateReceiveCount } = isRecord(system) ? system : {};
  const receiveCount = Number(ApproximateReceiveCount);
  const parts = { sqsMessageId, receiptHandle, groupId: MessageGroupId, receiveCount: receiveCount || undefined };
  return { ...delivered(parts, context), attributes: { ...context.attributes, ...toAttributes(attributes) } };
}

/** Merges the facts of a delivery; missing ones come from the outer layer. */
function delivered(parts: { [K in keyof Delivery]: unknown }, context: Context): Context {
  const present = Object.entries(parts).filter(
    ([, value]) => (typeof value === 'string' && value !== '') || typeof value === 'number',
  );
  return { ...context, delivery: { ...context.delivery, ...Object.fromEntries(present) } };
}

function timeOf(value: unknown): number | undefined {
  const time = typeof value === 'string' ? Date.parse(value) : Number.NaN;
  return Number.isNaN(time) ? undefined : time;
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const isRecord = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);
