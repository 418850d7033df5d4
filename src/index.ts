/** The library: the pipeline that the command runs, and the types a plugin is written with. */
export { loadConfig, type PusherConfig, parseConfig } from './config/load.ts';
export { type ErrorCode, PusherError } from './errors.ts';
export type { MessageEvent, PresenceEvent, XmppEvent } from './event.ts';
export type { Attributes, AttributeValue, SnsPlugin } from './notification/plugin.ts';
export { createLogger, type Logger } from './ops/log.ts';
export { type Pusher, startPusher } from './pusher.ts';
