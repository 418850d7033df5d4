/** What the options of every outbox have in common. */
import { PusherError } from '../errors.ts';

/** @throws PusherError CONFIG_INVALID for a size that is none */
export function refuseMaxBytes(outbox: string, maxBytes: unknown): void {
  if (typeof maxBytes !== 'number' || !(maxBytes > 0))
    throw new PusherError('CONFIG_INVALID', `${outbox}: maxBytes should be a number of bytes above 0`);
}
