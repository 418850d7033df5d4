/** Runs a command line in this process; a separate process would take half a second and show nothing more. */
import type { TestContext } from 'node:test';
import { main } from '../../src/cli/main.ts';

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Both streams, in the order of their writes. */
  readonly output: string;
}

/** Runs it and returns what it wrote. */
export async function commandLine({ mock }: Pick<TestContext, 'mock'>, ...args: string[]): Promise<Outcome> {
  const written = { stdout: '', stderr: '', output: '' };
  const spies = (['stdout', 'stderr'] as const).map((name) => {
    const stream = process[name];
    const write = stream.write.bind(stream);
    return mock.method(stream, 'write', (chunk: string | Uint8Array) => {
      // The test runner writes its own reports to this stream, as bytes.
      if (typeof chunk !== 'string') return write(chunk);
      written[name] += chunk;
      written.output += chunk;
      return true;
    });
  });
  process.exitCode = undefined;
  try {
    const code = await main([process.execPath, 'xmpp-event-pusher', ...args]);
    return { code, ...written };
  } finally {
    process.exitCode = undefined;
    for (const { mock } of spies) mock.restore();
  }
}
