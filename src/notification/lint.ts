/**
 * SNS's rules for a message and its attributes, checked before sending: a violation would make SNS refuse a whole batch
 * or, worse, drop the message on its way to a subscriber.
 * https://docs.aws.amazon.com/sns/latest/dg/sns-message-attributes.html
 */

import { forbiddenCharacter } from '../xml.ts';

/** The data types of a message attribute that SNS documents. */
type AttributeType = 'String' | 'String.Array' | 'Number' | 'Binary';

/** A message attribute in its stored form; a Binary's `value` is base64. */
export interface MessageAttribute {
  readonly name: string;
  readonly type: AttributeType;
  readonly value: string;
}

/** SNS's default size limit for a message and for a whole batch, in bytes. */
export const DEFAULT_MAX_BYTES = 262_144;

const NAME = /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/;
const RESERVED = /^(aws|amazon)\./i;
/** Why SNS would refuse this attribute; undefined if it would accept it. */
export function attributeProblem({ name, type, value }: MessageAttribute): string | undefined {
  if (name.length > 256) return `its name has ${name.length} characters, at most 256 are allowed`;
  if (!NAME.test(name))
    return 'its name may hold ASCII letters, digits, _, - and single dots inside, and must not be empty';
  if (RESERVED.test(name)) return 'names that start with "aws." or "amazon." are reserved';
  if (value === '' || (type === 'String.Array' && value === '[]')) return 'its value is empty';
  const forbidden = forbiddenCharacter(value);
  return forbidden && `its value holds ${forbidden}, which SNS does not allow`;
}

/** An attribute's size as SNS counts it, in bytes: name, type and value; a Binary's before base64. */
export function attributeBytes({ name, type, value }: MessageAttribute): number {
  const valueBytes = type === 'Binary' ? Buffer.byteLength(value, 'base64') : Buffer.byteLength(value);
  return Buffer.byteLength(name) + type.length + valueBytes;
}

/** Why SNS would refuse a message of this size; undefined if it fits. Sizes are in bytes. */
export function sizeProblem(messageBytes: number, attributesBytes: number, maxBytes: number): string | undefined {
  const total = messageBytes + attributesBytes;
  if (total <= maxBytes) return undefined;
  return `message of ${messageBytes} bytes and attributes of ${attributesBytes} bytes make ${total}, the topic takes ${maxBytes}`;
}
