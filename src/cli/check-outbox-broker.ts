/** `check`'s findings on RabbitMQ as the outbox: tries every operation of the daemon at each address. */
import type { PusherConfig } from '../config/load.ts';
import { messageOf } from '../errors.ts';
import { brokerOf } from '../open-outbox.ts';
import { shownUrl } from '../rabbitmq/connection.ts';
import { probeBroker } from '../rabbitmq/probe.ts';
import { type Finding, failed } from '../sns/check/diagnosis.ts';

const WHAT = 'RabbitMQ';

/** None where the outbox is a file. */
export async function examineRabbit(config: PusherConfig): Promise<Finding[]> {
  if (config.outbox.engine !== 'rabbitmq') return [];
  let broker: ReturnType<typeof brokerOf>;
  try {
    broker = brokerOf(config);
  } catch (error) {
    return [failed(WHAT, messageOf(error), 'the daemon would not start', 'correct the option, or the file')];
  }
  const findings: Finding[] = [];
  for (const url of broker.urls) {
    const problem = await probeBroker(url, broker.tls, config.outbox.prefix);
    const seen = shownUrl(url);
    findings.push(
      problem
        ? failed(WHAT, `${seen}: ${problem.reason}`, 'the tap would answer 503 over this address', problem.advice)
        : { what: WHAT, level: 'ok', seen: `${seen} allows all that the outbox needs` },
    );
  }
  return findings;
}
