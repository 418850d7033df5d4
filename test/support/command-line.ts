/** Runs a command line in this process; a separate process would take half a second and show nothing more. */
import { mock, type TestContext } from 'node:test';
import { main } from '../../src/cli/main.ts';

type Mocking = Pick<TestContext, 'mock'>;

/** Runs it and returns what it wrote: both streams, in the order of their writes. */
export async function commandLine(test: Mocking, ...args: string[]): Promise<{ code: number; output: string }> {
  const { code, output } = await commandStreams(test, ...args);
  return { code, output };
}

/** Runs it with these variables as its whole environment. */
export async function commandLineWith(env: NodeJS.ProcessEnv, ...args: string[]) {
  const own = process.env;
  process.env = { ...env };
  try {
    return await commandLine({ mock }, ...args);
  } finally {
    process.env = own;
  }
}

/** Runs it and returns what it wrote, also each stream by itself. */
export async function commandStreams({ mock }: Mocking, ...args: string[]) {
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
