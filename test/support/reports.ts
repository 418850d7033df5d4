/** Reports as the pipeline makes them, for their listeners. */
import type { Notification } from '../../src/notification/notification.ts';
import type { Report } from '../../src/pipeline/report.ts';

/** Reports that the sink accepted a notification. */
export const deliver = ({ request }: Pick<Report, 'request'>, notification: Notification, at: number): void =>
  request({ topic: notification.topic, entries: [notification], verdicts: [undefined], ms: 0, at });
