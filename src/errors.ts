/**
 * The closed set of faults this project raises on purpose. Expected outcomes (an event refused, a publish that must be
 * retried) are return values, not errors.
 */
export type ErrorCode =
  | 'CONFIG_UNREADABLE'
  | 'CONFIG_INVALID'
  | 'PLUGIN_UNUSABLE'
  | 'OUTBOX_LOCKED'
  | 'OUTBOX_UNUSABLE'
  | 'OUTBOX_FULL'
  | 'OUTBOX_CLOSED'
  | 'LISTEN_FAILED'
  | 'DAEMON_UNREACHABLE'
  | 'DAEMON_REFUSED'
  | 'ADAPTER_INSTALL'
  | 'BATCH_INVALID'
  | 'NOT_FOUND';

/** An error with a stable `code`, a message that says what and where, and, if possible, what to do. */
export class PusherError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'PusherError';
    this.code = code;
  }
}

/** The message of any thrown value; plugins and libraries throw values that are not errors. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** The name or code of anything thrown, if it looks like one; anything else may quote a user's text. */
export function codeOf(thrown: unknown): string | undefined {
  const { code, name } = (thrown ?? {}) as { code?: unknown; name?: unknown };
  return [code, name].find((word): word is string => typeof word === 'string' && /^[A-Za-z_]\w{0,63}$/.test(word));
}
