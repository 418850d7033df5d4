/** The form of a batch and of its events, version 1 of the tap protocol; `docs/tap-protocol.schema.json` is made from it. */
import { z } from 'zod';
import type { XmppEvent } from '../../event.ts';
import { forbiddenCharacter } from '../../notification/lint.ts';

/** Most events in a batch, and most bytes of its JSON: 4 MiB. */
export const MAX_EVENTS = 1_000;
export const MAX_BATCH_BYTES = 4_194_304;
/** Far beyond any queue, and far below what a number can be read back exactly from the outbox: 2^53. */
const MAX_FIRST_SEQ = 2 ** 48;

// RFC 7622: three parts of up to 1,023 octets and two separators; only the resource may hold spaces, "@" and "/".
// None of them holds what XML does not allow: control characters, lone surrogates, U+FFFE and U+FFFF.
const JID =
  /^(?:[^@/\s\p{Cc}\p{Cs}\uFFFE\uFFFF]+@)?[^@/\s\p{Cc}\p{Cs}\uFFFE\uFFFF]+(?:\/[^\p{Cc}\p{Cs}\uFFFE\uFFFF]+)?$/u;
const jid = z
  .string('should be a JID')
  .max(3_071, 'should be a JID of at most 3,071 characters')
  .regex(JID, 'should be a JID');

const xmlText = (schema: z.ZodString) =>
  schema.refine((text) => forbiddenCharacter(text) === undefined, {
    error: ({ input }) => `holds ${forbiddenCharacter(String(input))}, which XML does not allow`,
  });

/** Names stand in keys, logs and ids, where a control character would end one and begin another. */
const name = (what: string) =>
  xmlText(
    z
      .string(`should be ${what}`)
      .min(1, `should be ${what}, not empty`)
      .max(256, `should be ${what} of at most 256 characters`),
  ).refine((text) => forbiddenCharacter(text) !== undefined || !/\p{Cc}/u.test(text), {
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
      .describe('made when the queue of the source is created, and kept with it'),
    first_seq: z
      .int({ error: 'should be a whole number', abort: true })
      .min(1, 'should be 1 or more')
      .max(MAX_FIRST_SEQ, `should be at most ${MAX_FIRST_SEQ}`)
      .optional()
      .describe('number of events[0] in that queue; events are numbered 1, 2, 3 … without gaps'),
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
