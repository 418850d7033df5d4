/**
 * One RabbitMQ for all suites of a test file: a node takes seconds to start. Each test has its own vhost or
 * prefix, and ends the alarms that it raises.
 */
import { after } from 'node:test';
import { type RabbitServer, startRabbit } from './rabbitmq.ts';

let started: Promise<RabbitServer> | undefined;
after(async () => (await started)?.[Symbol.asyncDispose]());

/** Starts it if no suite has done so; it stops after the last test. */
export function sharedRabbit(): Promise<RabbitServer> {
  started ??= startRabbit();
  return started;
}
