/**
 * The library for consumers of the notifications: `import { parse } from 'xmpp-event-pusher/consumer'`. It needs only
 * Node.js.
 */

export { type EventId, parseEventId } from '../event-id.ts';
export type { MessageBody, PresenceBody } from './body.ts';
export { type ClaimStore, type DedupeOptions, dedupe } from './dedupe.ts';
export { type DynamoClient, type DynamoStoreOptions, dynamoStore } from './dynamodb-store.ts';
export { ConsumerError, type ConsumerErrorCode } from './error.ts';
export { type MemoryStoreOptions, memoryStore } from './memory-store.ts';
export {
  type AttributeValue,
  type Delivery,
  type Malformed,
  type MessageNotification,
  type Notification,
  orderKey,
  type Parsed,
  type PresenceNotification,
} from './notification.ts';
export { ordered } from './order.ts';
export { type ParseOptions, parse } from './parse.ts';
export { type Presence, type PresenceState, presenceState, type StateStore } from './presence.ts';
export { type Released, type Reorder, type ReorderOptions, reorder } from './reorder.ts';
export { type BatchOptions, type BatchResponse, sqsBatch } from './sqs-batch.ts';
export { type SnsRequest, snsVerifier, type Verified, type VerifierOptions } from './verify.ts';
