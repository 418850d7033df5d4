/**
 * The schema of the published JSON, from which `schemas/`, the AsyncAPI document and the consumers' types are
 * generated. Tests validate the real output of every server against it.
 */
import { z } from 'zod';
import { BUILT_IN_ATTRIBUTES } from './additions.ts';
import { FIELDS, type Field } from './fields.ts';

const userId = (text: string) => z.string().min(1).describe(text);

/**
 * The fields for `body_fields`; all optional, because an event may lack them. The notification's own keys can't be
 * added.
 */
const fieldsBut = (...own: string[]) =>
  Object.fromEntries(
    Object.entries(FIELDS)
      .filter(([name]) => !own.includes(name))
      .map(([name, field]) => [name, schemaOf(name, field).optional().describe(plain(field.text))]),
  );

const schemaOf = (name: string, { type }: Field) =>
  name === 'type' ? z.enum(['presence', 'pm', 'muc']) : type === 'Number' ? z.number() : z.string();

/** Markdown as plain text. */
const plain = (text: string): string => text.replaceAll('`', '');

export const presenceBody = z.looseObject({
  user_id: userId('the user: a bare JID in lower case, or what the plugin makes of it'),
  present: z.boolean().describe('whether the user is online from now on'),
  ...fieldsBut('present'),
});

export const messageBody = z.looseObject({
  to_user_id: userId('the recipient or the room: a bare JID in lower case, or what the plugin makes of it'),
  message: z.string().describe('the text of <body/>; may be empty'),
  from_user_id: userId('the sender: a bare JID in lower case, or what the plugin makes of it'),
  ...fieldsBut('present', 'sessions'),
});

/** Message attributes as in SNS's envelope. The configuration or a plugin may add others. */
export const messageAttributes = z.looseObject(
  Object.fromEntries(
    BUILT_IN_ATTRIBUTES.map((name) => {
      const { type, text } = FIELDS[name];
      const attribute = z.looseObject({ Type: z.literal(type), Value: z.string().min(1) });
      return [name, attribute.optional().describe(plain(text))];
    }),
  ),
);
