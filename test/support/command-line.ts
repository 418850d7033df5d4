/** Runs a command line in this process; a separate process would take half a second and show nothing more. */
import type { TestContext } from 'node:test';
import { main } from '../../src/cli/main.ts';

/** Returns the exit code and the output of both streams. */
export async function commandLine(t: TestContext, ...args: string[]): Promise<{ code: number; output: string }> {
  let output = '';
  const spies = [process.stdout, process.stderr].map((stream) => {
    const write = stream.write.bind(stream);
    return t.mock.method(stream, 'write', (chunk: string | Uint8Array) => {
      // The test runner writes its own reports to this stream, as bytes.
      if (typeof chunk !== 'string') return write(chunk);
      output += chunk;
      return true;
    });
  });
  process.exitCode = undefined;
  try {
    const code = await main([process.execPath, 'xmpp-event-pusher', ...args]);
    return { code, output };
  } finally {
    process.exitCode = undefined;
    for (const { mock } of spies) mock.restore();
  }
}
