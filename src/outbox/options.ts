/** Checks of options that all outboxes share. */
import { PusherError } from '../errors.ts';

/** @throws PusherError CONFIG_INVALID for an invalid size */
export function refuseMaxBytes(outbox: string, maxBytes: unknown): void {
  if (typeof maxBytes !== 'number' || !(maxBytes > 0))
    throw new PusherError('CONFIG_INVALID', `${outbox}: maxBytes should be a number of bytes above 0`);
}
