/**
 * One RabbitMQ for all suites of a test file: a node takes seconds to start. Each test has a vhost of its own there, or a
 * prefix, and leaves no alarm behind.
 */
import { after } from 'node:test';
import { type RabbitServer, startRabbit } from './rabbitmq.ts';

let started: Promise<RabbitServer> | undefined;
after(async () => (await started)?.[Symbol.asyncDispose]());

/** Starts it where no suite has done so before; it ends behind the last test. */
export function sharedRabbit(): Promise<RabbitServer> {
  started ??= startRabbit();
  return started;
}
