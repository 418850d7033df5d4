/**
 * An event on an XMPP server, as an adapter or another tap reports it. Taps check events against this schema, and all
 * other code uses the types inferred from it. It is version 1 of the tap protocol.
 */
import { z } from 'zod';
import { forbiddenCharacter } from './xml.ts';

// Patterns are part of the JSON Schema, so they use only syntax that ECMAScript and Python share: no \p{…}, no \s, and
// `(?!
// )` after `$`, which in Python also matches before a final line break.
const NOT_XML = '\\uD800-\\uDFFF\\uFFFE\\uFFFF';
const CONTROL = '\\u0000-\\u001F\\u007F-\\u009F';
const SPACE = ' \\u00A0\\u1680\\u2000-\\u200A\\u2028\\u2029\\u202F\\u205F\\u3000\\uFEFF';
/** Characters of XML 1.0: of the control characters only tab, line feed and carriage return. */
const XML_TEXT = `^[^\\u0000-\\u0008\\u000B\\u000C\\u000E-\\u001F${NOT_XML}]*$`;
const NAME = `^[^${CONTROL}${NOT_XML}]*$(?!\\n)`;

// RFC 7622: three parts of up to 1,023 octets and two separators; only the resource may contain spaces, "@" and "/".
// None may contain what XML forbids: control characters, lone surrogates, U+FFFE and U+FFFF.
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

/** Names are parts of keys, logs and ids, where a control character would act as a separator. */
export const name = (what: string) =>
  xmlText(z.string(`should be ${what}`).min(1, `should be ${what}, not empty`), NAME)
    .refine(atMost(256), `should be ${what} of at most 256 characters`)
    .meta({ maxLength: 256 })
    // The rule before has reported characters that XML forbids.
    .refine((text) => !/\p{Cc}/u.test(text) || forbiddenCharacter(text) !== undefined, {
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

/** The schema compiled to a function: the same results and messages in a third of the time. */
const compiledSchema = z.compile(eventSchema);

/** Fields added by the intake. */
interface Identity {
  /** `<source>/<epoch>/<seq>`, or a random UUID if the source does not number its events. */
  readonly id: string;
  /** Its trace context, a W3C `traceparent`. */
  readonly traceparent?: string | undefined;
}

/** A session became available, or stopped being available. */
export type PresenceEvent = Readonly<z.infer<typeof presence>> & Identity;

/** A local user sent a private (`chat`) or a group (`groupchat`) message that has a `<body/>`. */
export type MessageEvent = Readonly<z.infer<typeof message>> & Identity;

export type XmppEvent = PresenceEvent | MessageEvent;

/** An event as its source reports it, without the intake's fields. */
export type NewEvent = Readonly<z.infer<typeof eventSchema>>;

/** A malformed event. */
export interface MalformedEvent {
  /** The mistake: field and rule, never the value. */
  readonly problem: string;
  /** As received. */
  readonly raw: unknown;
}

/**
 * Maximum nesting of the stored part of a malformed event; valid events are flat. Writing more as JSON could overflow
 * the stack.
 */
const MOST_DEPTH = 32;

/** Validates an event from a source. */
export function parseEvent(raw: unknown): NewEvent | MalformedEvent {
  const result = compiledSchema.safeParse(raw);
  if (result.success) return result.data;
  if (isDeeper(raw, MOST_DEPTH))
    return {
      problem: `should not be nested deeper than ${MOST_DEPTH}`,
      raw: `(left out: nested deeper than ${MOST_DEPTH})`,
    };
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) return { problem: 'should be an object', raw };
  return { problem: problemOf(result.error), raw };
}

/** Goes level by level, because recursion would overflow the stack itself. */
function isDeeper(value: unknown, most: number): boolean {
  let level: object[] = typeof value === 'object' && value !== null ? [value] : [];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth >= most) return true;
    const below: object[] = [];
    for (const each of level)
      for (const inner of Object.values(each)) if (typeof inner === 'object' && inner !== null) below.push(inner);
    level = below;
  }
  return false;
}

export const isMalformed = (event: NewEvent | MalformedEvent): event is MalformedEvent => 'problem' in event;

/** The mistakes, one phrase per field. */
export function problemOf(error: z.ZodError): string {
  return error.issues
    .map(({ path, message }) => (path.length === 0 ? message : `${path.join('.')}: ${message}`))
    .join('; ');
}
