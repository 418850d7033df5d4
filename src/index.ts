/**
 * The library: the daemon's pipeline for other programs. The daemon uses nothing else. `xmpp-event-pusher/consumer` is
 * for consumers of the notifications.
 */
export { loadConfig, type PusherConfig } from './config/load.ts';
export { type ErrorCode, PusherError } from './errors.ts';
export type { MessageEvent, PresenceEvent, XmppEvent } from './event.ts';
export type { Log } from './log.ts';
export type { Notification } from './notification/notification.ts';
export type { Attributes, AttributeValue, PluginContext, PluginEvent, SnsPlugin } from './notification/plugin.ts';
export type * from './outbox/dead-letters.ts';
export { type MemoryOutboxOptions, memoryOutbox } from './outbox/memory.ts';
export type { Admission, Backlog, Cursor, Health, Outbox, Settlement, Stored } from './outbox/outbox.ts';
export type { Progress } from './outbox/sources.ts';
export { type SqliteOutboxOptions, sqliteOutbox } from './outbox/sqlite/sqlite.ts';
export type { Pause, Report } from './pipeline/report.ts';
export type { Limits, Sink, SinkReceipt, Verdict } from './pipeline/sink.ts';
export {
  createPusher,
  type Pusher,
  type PusherEvents,
  type PusherOptions,
  type PusherState,
  type Routing,
  type SinkSettings,
} from './pusher.ts';
export type { SnsSettings } from './sns/settings.ts';
export { type HttpTap, type HttpTapSettings, httpTap } from './taps/http/http.ts';
export type { GivenBatch } from './taps/in-process.ts';
export { type RabbitTapSettings, rabbitTap } from './taps/rabbitmq/rabbitmq.ts';
export type { Batch, Receipt, Receive, Tap, TapState } from './taps/tap.ts';
