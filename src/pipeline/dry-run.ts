/** A sink that shows notifications instead of sending them. */
import { DEFAULT_MAX_BYTES } from '../notification/lint.ts';
import type { Notification } from '../notification/notification.ts';
import type { Sink } from './sink.ts';

/** Accepts everything, in requests as large as SNS's, and sends nothing. */
export const dryRunSink = (show: (notification: Notification) => void): Sink => ({
  limits: () => ({ maxEntries: 10, maxBytes: DEFAULT_MAX_BYTES }),
  async publish(_, entries) {
    for (const entry of entries) show(entry);
    return entries.map(() => undefined);
  },
});
