/** The form of a batch and of its events, version 1 of the tap protocol; `docs/tap-protocol.schema.json` is made from it. */
import { z } from 'zod';
import type { XmppEvent } from '../../event.ts';
import { forbiddenCharacter } from '../../notification/lint.ts';

/** Most events in a batch, and most bytes of its JSON: 4 MiB. */
export const MAX_EVENTS = 1_000;
export const MAX_BATCH_BYTES = 4_194_304;
/** Far beyond any queue, and far below what a number can be read back exactly from the outbox: 2^53. */
const MAX_FIRST_SEQ = 2 ** 48;

// Patterns are part of the JSON Schema, so they keep to what ECMAScript and Python read alike: no \p{…} and no \s, and
// `(?!\n)` behind `$`, which in Python also matches before a last line break.
const NOT_XML = '\\uD800-\\uDFFF\\uFFFE\\uFFFF';
const CONTROL = '\\u0000-\\u001F\\u007F-\\u009F';
const SPACE = ' \\u00A0\\u1680\\u2000-\\u200A\\u2028\\u2029\\u202F\\u205F\\u3000\\uFEFF';
/** Characters of XML 1.0: of the control characters only tab, line feed and carriage return. */
const XML_TEXT = `^[^\\u0000-\\u0008\\u000B\\u000C\\u000E-\\u001F${NOT_XML}]*$`;
const NAME = `^[^${CONTROL}${NOT_XML}]*$(?!\\n)`;

// RFC 7622: three parts of up to 1,023 octets and two separators; only the resource may hold spaces, "@" and "/".
// None of them holds what XML does not allow: control characters, lone surrogates, U+FFFE and U+FFFF.
const PART = `[^@/${SPACE}${CONTROL}${NOT_XML}]+`;
const JID = new RegExp(`^(?:${PART}@)?${PART}(?:/[^${CONTROL}${NOT_XML}]+)?$(?!\\n)`, 'u');
const jid = z
  .string('should be a JID')
  .refine(atMost(3_071), 'should be a JID of at most 3,071 characters')
  .meta({ maxLength: 3_071 })
  .regex(JID, 'should be a JID');

/** Counts characters as JSON Schema does: code points, and not JavaScript's UTF-16 units. */
function atMost(limit: number) {
  return (text: string): boolean => text.length <= limit || (text.length <= 2 * limit && [...text].length <= limit);
}

const xmlText = (schema: z.ZodString, pattern = XML_TEXT) =>
  schema
    .refine((text) => forbiddenCharacter(text) === undefined, {
      error: ({ input }) => `holds ${forbiddenCharacter(String(input))}, which XML does not allow`,
    })
    .meta({ pattern });

/** Names stand in keys, logs and ids, where a control character would end one and begin another. */
const name = (what: string) =>
  xmlText(z.string(`should be ${what}`).min(1, `should be ${what}, not empty`), NAME)
    .refine(atMost(256), `should be ${what} of at most 256 characters`)
    .meta({ maxLength: 256 })
    .refine((text) => forbiddenCharacter(text) !== undefined || !/\p{Cc}/u.test(text), {
      error: `should be ${what} without control characters`,
    });

const common = {
  at: z
    .int('should be a whole number of milliseconds since 1970')
    .min(0, 'should not be negative')
    .describe('when it happened, milliseconds since the Unix epoch'),
  host: name('an XMPP domain').describe('the XMPP domain (virtual host) it happened on'),
};

const presence = z.object({
  kind: z.literal('presence'),
  ...common,
  jid: jid.describe('full JID of the session'),
  present: z
    .boolean('should be true or false')
    .describe('whether it became available (true) or ended being so (false)'),
  sessions: z
    .int('should be a whole number')
    .min(0, 'should not be negative')
    .optional()
    .describe(
      "available sessions of that user on the whole server or cluster after this change; left out where the server can't tell",
    ),
});

const message = z.object({
  kind: z.literal('message'),
  ...common,
  type: z.enum(['chat', 'groupchat'], 'should be "chat" or "groupchat"'),
  from: jid.describe("full JID of the sender's session"),
  to: jid.describe('the address it was sent to'),
  body: xmlText(z.string('should be a text, possibly empty')).describe('text of <body/>; may be empty, never missing'),
  stanza_id: xmlText(z.string('should be a text')).optional().describe("the stanza's id attribute, where there is one"),
  stanza: z.string('should be a text').optional().describe('the whole stanza as XML'),
});

export const eventSchema = z.discriminatedUnion('kind', [presence, message], 'should be "presence" or "message"');

const MESSAGE_BOTH = 'epoch and first_seq go together';
export const batchSchema = z
  .object({
    source: name('the name of the sending server node').describe('stable name of the sending server node'),
    epoch: name("the name of the source's queue")
      .optional()
      .describe('one run of the adapter, made at its start and kept beside its events'),
    first_seq: z
      .int({ error: 'should be a whole number', abort: true })
      .min(1, 'should be 1 or more')
      .max(MAX_FIRST_SEQ, `should be at most ${MAX_FIRST_SEQ}`)
      .optional()
      .describe('number of events[0] in that run; events are numbered 1, 2, 3 … without gaps'),
    events: z.array(z.unknown(), 'should be a list of events'),
  })
  .refine(({ epoch, first_seq }) => (epoch === undefined) === (first_seq === undefined), { error: MESSAGE_BOTH });

/** An event without its id, or what is wrong with it: the field and the rule, never the value. */
export function parseEvent(input: unknown): { event: Omit<XmppEvent, 'id'> } | { problem: string } {
  const result = eventSchema.safeParse(input);
  if (result.success) return { event: result.data };
  if (typeof input !== 'object' || input === null || Array.isArray(input)) return { problem: 'should be an object' };
  return { problem: problemOf(result.error) };
}

/** What is wrong, one phrase a field. */
export function problemOf(error: z.ZodError): string {
  return error.issues
    .map(({ path, message }) => (path.length === 0 ? message : `${path.join('.')}: ${message}`))
    .join('; ');
}
