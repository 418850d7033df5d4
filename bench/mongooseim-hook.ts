/**
 * The cost of MongooseIM's adapter for a session that sends a message: the hook and its parts, on the stand-in, while
 * the adapter's process writes and delivers.
 *
 * Usage: node bench/mongooseim-hook.ts [TIMES]
 */
import { startCollector } from '../test/support/collector.ts';
import { binary, raw, startMongooseIm } from '../test/support/mongooseim.ts';

const times = Number(process.argv[2] ?? 2_000);
const BODIES = {
  'a short body': 'Hello, Bob',
  'a body of 1 KB': 'x'.repeat(1_000),
  'with letters to escape': '"q" <&> ❤\n'.repeat(10),
};

await using tap = await startCollector();
await using server = await startMongooseIm({ url: tap.url, queueMax: 10_000_000 });
for (const [name, body] of Object.entries(BODIES)) {
  const result = await server.call('mongoose_cost', 'measure', raw(String(times)), binary(body));
  const parts = new Map(
    [...result.matchAll(/\{(\w+),(\d+)\}/g)].map(([, part = '', ns]) => [part, Number(ns) / 1_000]),
  );
  const lines = [...parts].map(([part, micros]) => `  ${part.replaceAll('_', ' ').padEnd(20)} ${micros.toFixed(2)} µs`);
  process.stdout.write(`${name}\n${lines.join('\n')}\n`);
}
