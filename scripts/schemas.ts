/**
 * Generates what others use to validate and to generate code: JSON Schemas of input and output, an AsyncAPI document,
 * and TypeScript types. All come from the schemas that the daemon itself uses.
 *
 * Every schema is valid in ajv's strict mode and in Python's jsonschema; tests compare their verdicts with the
 * daemon's.
 */
import { z } from 'zod';
import { eventSchema } from '../src/event.ts';
import { messageAttributes, messageBody, presenceBody } from '../src/notification/schema.ts';
import { batchSchema, MAX_BATCH_BYTES, MAX_EVENTS } from '../src/taps/http/payload.ts';
import { type Schema, typesOf } from './types.ts';

const DRAFT = 'https://json-schema.org/draft/2020-12/schema';

const jsonSchema = (schema: z.ZodType, target: 'draft-2020-12' | 'draft-7' = 'draft-2020-12'): Schema => {
  const { $schema, ...json } = z.toJSONSchema(schema, { io: 'input', target });
  return json;
};

/** A batch, version 1 of the tap protocol. */
export function tapProtocolSchema(): Schema {
  const { properties, ...batch } = jsonSchema(batchSchema);
  const events = { type: 'array', maxItems: MAX_EVENTS, items: { $ref: '#/$defs/event' } };
  return {
    $schema: DRAFT,
    title: 'A batch of events, version 1 of the tap protocol',
    description: `The body of POST /v1/events, at most ${MAX_BATCH_BYTES} bytes of JSON. A batch that is not of this form is refused as a whole; an event that is not is refused alone.`,
    type: batch.type,
    properties: { ...(properties as Schema), events },
    required: batch.required,
    dependentRequired: { epoch: ['first_seq'], first_seq: ['epoch'] },
    $defs: { event: jsonSchema(eventSchema) },
  };
}

/** A notification: the published message, parsed. */
export function notificationSchema(): Schema {
  return {
    $schema: DRAFT,
    title: 'A notification',
    description:
      'The JSON that is published to SNS. Which of the optional keys are there depends on body_fields in the configuration.',
    oneOf: [{ $ref: '#/$defs/presence' }, { $ref: '#/$defs/message' }],
    $defs: { presence: jsonSchema(presenceBody), message: jsonSchema(messageBody) },
  };
}

/** A notification as it arrives in a queue or at an HTTP endpoint without raw delivery. */
export function envelopeSchema(): Schema {
  return {
    $schema: DRAFT,
    title: "A notification in SNS's envelope",
    description: 'What a subscription without raw delivery gets. Message holds a notification as a JSON string.',
    type: 'object',
    properties: {
      Type: { const: 'Notification' },
      MessageId: { type: 'string' },
      TopicArn: { type: 'string' },
      Message: { type: 'string', contentMediaType: 'application/json' },
      Timestamp: { type: 'string' },
      MessageAttributes: jsonSchema(messageAttributes),
    },
    required: ['Type', 'MessageId', 'TopicArn', 'Message', 'Timestamp'],
  };
}

/** What is published where, as an AsyncAPI 3 document. Channels have the topic names used in the documentation. */
export function asyncApi(version: string): Schema {
  const message = (name: string, title: string, body: z.ZodType): Schema => ({
    name,
    title,
    contentType: 'application/json',
    headers: { ...jsonSchema(messageAttributes, 'draft-7'), description: "SNS's message attributes" },
    payload: jsonSchema(body, 'draft-7'),
  });
  const channels = [
    ['presence', 'user_presence_updated', 'A user came online or went offline', presenceBody],
    ['pm', 'user_message_sent', 'A user sent a private message', messageBody],
    ['muc', 'user_messagegroup_sent', 'A user sent a group message', messageBody],
  ] as const;
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'xmpp-event-pusher',
      version,
      description:
        'What users of an XMPP server do, published to Amazon SNS. Names of topics are those of the configuration.',
      license: { name: 'Apache-2.0' },
    },
    defaultContentType: 'application/json',
    channels: Object.fromEntries(
      channels.map(([name, topic, title]) => [
        name,
        {
          address: topic,
          title,
          messages: { [name]: { $ref: `#/components/messages/${name}` } },
          bindings: { sns: { name: topic, bindingVersion: '0.1.0' } },
        },
      ]),
    ),
    operations: Object.fromEntries(
      channels.map(([name]) => [
        `publish-${name}`,
        {
          action: 'send',
          channel: { $ref: `#/channels/${name}` },
          messages: [{ $ref: `#/channels/${name}/messages/${name}` }],
        },
      ]),
    ),
    components: {
      messages: Object.fromEntries(channels.map(([name, , title, body]) => [name, message(name, title, body)])),
    },
  };
}

/** The types of bodies, for the subscribers' library. */
export const bodyTypes = (): string =>
  typesOf('Published messages, parsed.', {
    PresenceBody: { ...jsonSchema(presenceBody), description: 'A user came online or went offline.' },
    MessageBody: { ...jsonSchema(messageBody), description: 'A user sent a message.' },
  });

/** The text of each generated file, by its path from the root. */
export function schemaFiles(version: string): ReadonlyMap<string, string> {
  const json = (schema: Schema) => JSON.stringify(schema);
  return new Map([
    ['schemas/tap-protocol.schema.json', json(tapProtocolSchema())],
    ['schemas/notification.schema.json', json(notificationSchema())],
    ['schemas/sns-envelope.schema.json', json(envelopeSchema())],
    ['schemas/asyncapi.json', json(asyncApi(version))],
    ['src/consumer/body.ts', bodyTypes()],
  ]);
}
