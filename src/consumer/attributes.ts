/** Reads message attributes in the three notations of SNS, SQS and Lambda. */
import type { AttributeValue } from './notification.ts';

/**
 * `{ Type, Value }` in SNS's envelope, `{ DataType, StringValue, BinaryValue }` from SQS's API, `{ dataType,
 * stringValue, binaryValue }` in a Lambda. Omits attributes of any other form.
 */
export function toAttributes(attributes: unknown): Record<string, AttributeValue> {
  if (typeof attributes !== 'object' || attributes === null) return {};
  const entries = Object.entries(attributes).flatMap(([name, attribute]): [string, AttributeValue][] => {
    const value = toValue(attribute);
    return value === undefined ? [] : [[name, value]];
  });
  return Object.fromEntries(entries);
}

function toValue(attribute: unknown): AttributeValue | undefined {
  if (typeof attribute !== 'object' || attribute === null) return undefined;
  const fields = new Map(Object.entries(attribute).map(([name, value]) => [name.toLowerCase(), value]));
  const type: unknown = fields.get('type') ?? fields.get('datatype');
  if (typeof type !== 'string') return undefined;
  const value: unknown = fields.get('value') ?? fields.get('stringvalue') ?? fields.get('binaryvalue');
  if (value instanceof Uint8Array) return value;
  if (typeof value !== 'string') return undefined;
  if (type.startsWith('Binary')) return Buffer.from(value, 'base64');
  if (type.startsWith('Number')) return Number(value);
  return type === 'String.Array' ? toArray(value) : value;
}

function toArray(text: string): AttributeValue {
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) ? value : text;
  } catch {
    return text;
  }
}
