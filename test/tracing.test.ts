/** Traces through a real daemon, with an OpenTelemetry SDK loaded as docs/operations.md describes. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { createDaemon } from './support/daemon.ts';
import { until } from './support/process.ts';
import { startStubSns } from './support/stub-sns.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const SENDER = '00f067aa0ba902b7';

interface Span {
  readonly span: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parent?: string;
  readonly linked: readonly string[];
}

it('a trace continues from the adapter through the daemon into the message, linked to the request to SNS', async () => {
  const published: (string | undefined)[] = [];
  await using sns = await startStubSns({ accepted: ({ attributes }) => published.push(attributes.get('traceparent')) });
  await using daemon = await createDaemon(
    { url: sns.url, region: 'eu-west-1', accountId: '123456789012' },
    { sns: 'attributes = ["traceparent"]' },
  );
  const NODE_OPTIONS = `--import=${new URL('./support/tracing-sdk.ts', import.meta.url)}`;
  await daemon.start({ env: { NODE_OPTIONS } });
  const from = 'alice@localhost/phone';
  const event = { kind: 'message', at: 1, host: 'localhost', type: 'chat', from, to: 'bob@localhost', body: 'x' };
  await daemon.post({ source: 's', events: [event] }, { traceparent: `00-${TRACE}-${SENDER}-01` });

  const spans = (): Span[] =>
    daemon
      .output()
      .split('\n')
      .filter((line) => line.startsWith('{"span"'))
      .map((line) => JSON.parse(line));
  await until('both spans', () => spans().length === 2);
  const received = spans().find(({ span }) => span === 'receive events');
  assert.deepEqual([received?.traceId, received?.parent], [TRACE, SENDER]);
  assert.deepEqual(published, [`00-${TRACE}-${received?.spanId}-01`]);
  const request = spans().find(({ span }) => span === 'publish notifications');
  assert.deepEqual(request?.linked, [received?.spanId]);
});
