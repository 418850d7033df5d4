/** `check`'s findings on `[tap.rabbitmq]`. */
import path from 'node:path';
import type { PusherConfig } from '../config/load.ts';
import { messageOf } from '../errors.ts';
import { type Finding, failed, warn } from '../sns/check/diagnosis.ts';
import { type Examined, examineRabbitTap } from '../taps/rabbitmq/examine.ts';
import { rabbitTapSettings } from '../taps/rabbitmq/settings.ts';

export async function* rabbitFindings({ file, tap }: PusherConfig): AsyncGenerator<Finding> {
  if (!tap.rabbitmq) return;
  try {
    const settings = rabbitTapSettings(tap.rabbitmq, path.dirname(file));
    for await (const examined of examineRabbitTap(settings)) yield findingOf(examined, settings.urls.length > 1);
  } catch (error) {
    yield failed('tap.rabbitmq', messageOf(error), 'the daemon would not start', 'correct the option, or the file');
  }
}

function findingOf({ what, seen, problem, advice }: Examined, hasOthers: boolean): Finding {
  const named = `tap.rabbitmq ${what}`;
  if (problem && what === 'broker' && hasOthers)
    return { what: named, ...warn(seen, 'the daemon uses the other nodes of the list', problem.advice) };
  if (problem) return failed(named, seen, 'nothing is read from RabbitMQ', problem.advice);
  if (advice) return { what: named, ...warn(seen, 'nothing of it is read', advice) };
  return { what: named, level: 'ok', seen };
}
