/**
 * SNS's query protocol: forms for requests, XML in answers. Only text, so that all of it can be tested without a
 * server.
 * https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html
 */
import { hash } from 'node:crypto';
import type { Notification } from '../notification/notification.ts';

/** The length of a MessageId or RequestId; longer values from other servers are truncated. */
const MOST_ID = 100;
/** Maximum number of entries in a batch. */
export const MAX_ENTRIES = 10;
export const CONTENT_TYPE = 'application/x-www-form-urlencoded; charset=utf-8';

const ENTRY_NAMES = Array.from(
  { length: MAX_ENTRIES },
  (_, index) => `&PublishBatchRequestEntries.member.${index + 1}.`,
);

/**
 * The form of a PublishBatch; entry N has the id `N`. Never with MessageStructure, which would make SNS look for a
 * `default` message inside our JSON and refuse it.
 */
export function publishBatchForm(topicArn: string, entries: readonly Notification[]): string {
  const fifo = isFifo(topicArn);
  let form = `Action=PublishBatch&Version=2010-03-31&TopicArn=${encodeURIComponent(topicArn)}`;
  entries.forEach(({ message, attributes, orderKey, eventId, parameters }, index) => {
    const at = ENTRY_NAMES[index];
    form += `${at}Id=${index}${at}Message=${encodeURIComponent(message)}`;
    if (parameters?.Subject !== undefined) form += `${at}Subject=${encodeURIComponent(parameters.Subject)}`;
    if (fifo) {
      const group = parameters?.MessageGroupId ?? orderKey;
      const deduplication = parameters?.MessageDeduplicationId ?? eventId;
      form += `${at}MessageGroupId=${encodeURIComponent(fifoId(group))}`;
      form += `${at}MessageDeduplicationId=${encodeURIComponent(fifoId(deduplication))}`;
    }
    attributes.forEach(({ name, type, value }, position) => {
      const entry = `${at}MessageAttributes.entry.${position + 1}.`;
      const field = type === 'Binary' ? 'BinaryValue' : 'StringValue';
      form += `${entry}Name=${encodeURIComponent(name)}${entry}Value.DataType=${type}`;
      form += `${entry}Value.${field}=${encodeURIComponent(value)}`;
    });
  });
  return form;
}

/**
 * The name of a FIFO topic ends with `.fifo`: https://docs.aws.amazon.com/sns/latest/dg/fifo-topic-code-examples.html
 */
export const isFifo = (topicArn: string): boolean => topicArn.endsWith('.fifo');

/**
 * A text as MessageGroupId or MessageDeduplicationId, which are 1 to 128 ASCII letters, digits and punctuation; other
 * texts are hashed (https://docs.aws.amazon.com/sns/latest/api/API_PublishBatchRequestEntry.html).
 */
export function fifoId(text: string): string {
  return /^[!-~]{1,128}$/.test(text) ? text : hash('sha256', text);
}

/** The outcome of one entry: accepted by SNS under this MessageId, or why not. */
export type EntryAnswer = { readonly code: string; readonly message: string; readonly senderFault: boolean } | string;

/**
 * The outcome of each of `count` entries in a PublishBatch answer; undefined for an entry that it does not mention, and
 * for everything if it is no such answer. An entry listed both as accepted and as failed counts as failed: better twice
 * than never.
 */
export function readPublishBatchAnswer(xml: string, count: number): (EntryAnswer | undefined)[] | undefined {
  if (!xml.includes('<PublishBatchResult>') || !xml.includes('</PublishBatchResponse>')) return undefined;
  const answers = new Array<EntryAnswer | undefined>(count);
  for (const member of members(xml, 'Successful')) {
    const index = entryIndex(member, count);
    if (index === undefined || !member.includes('<MessageId>')) continue;
    answers[index] = (element(member, 'MessageId') ?? '').slice(0, MOST_ID);
  }
  for (const member of members(xml, 'Failed')) {
    const index = entryIndex(member, count);
    if (index !== undefined)
      answers[index] = {
        code: element(member, 'Code') ?? 'UnknownError',
        message: element(member, 'Message') ?? '',
        senderFault: element(member, 'SenderFault') === 'true',
      };
  }
  return answers;
}

/**
 * Code and message of an ErrorResponse; undefined if it is none. If a signature is wrong, AWS quotes the signed
 * headers, including a session token, or the Authorization header: that part is removed, because the message is logged.
 */
export function readError(xml: string): { code: string; message: string } | undefined {
  const code = xml.includes('<ErrorResponse') ? element(xml, 'Code') : undefined;
  if (code === undefined) return undefined;
  const [message = ''] = (element(xml, 'Message') ?? '').split(/\s*(?:The Canonical String|Authorization=)/);
  return { code, message };
}

/** SNS's id of the request; undefined if there is none. */
export const readRequestId = (xml: string): string | undefined => element(xml, 'RequestId')?.slice(0, MOST_ID);

/** The attributes in a GetTopicAttributes answer, by name. */
export function readTopicAttributes(xml: string): Map<string, string> {
  const entries = (rawElement(xml, 'Attributes') ?? '').split('<entry>').slice(1);
  return new Map(entries.map((entry) => [element(entry, 'key') ?? '', element(entry, 'value') ?? '']));
}

/** The ARN in a CreateTopic answer; undefined if it is none. */
export const readTopicArn = (xml: string): string | undefined => element(xml, 'TopicArn');

function members(xml: string, list: string): string[] {
  const inside = rawElement(xml, list);
  return inside === undefined ? [] : inside.split('<member>').slice(1);
}

function entryIndex(member: string, count: number): number | undefined {
  const id = element(member, 'Id');
  return id !== undefined && /^\d$/.test(id) && Number(id) < count ? Number(id) : undefined;
}

/**
 * The text of the first element with this name: SNS's answers have no attributes, and no element contains another of
 * its name.
 */
function element(xml: string, name: string): string | undefined {
  const content = rawElement(xml, name);
  return content?.includes('&') ? unescapeXml(content) : content;
}

/** The same for an element with child elements. */
function rawElement(xml: string, name: string): string | undefined {
  const start = xml.indexOf(`<${name}>`);
  if (start < 0) return undefined;
  const end = xml.indexOf(`</${name}>`, start);
  return end < 0 ? undefined : xml.slice(start + name.length + 2, end);
}

const ENTITIES: Readonly<Record<string, string>> = { lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' };

const unescapeXml = (text: string): string =>
  text.replace(/&(lt|gt|quot|apos|amp);/g, (_, name: string) => ENTITIES[name] ?? '');
