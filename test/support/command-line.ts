/** A command line run in this process, where a process of its own would cost half a second and show nothing more. */
import type { TestContext } from 'node:test';
import { main } from '../../src/cli/main.ts';

/** Answers the exit code and what was written, to whichever stream. */
export async function commandLine(t: TestContext, ...args: string[]): Promise<{ code: number; output: string }> {
  let output = '';
  const spies = [process.stdout, process.stderr].map((stream) => {
    const write = stream.write.bind(stream);
    return t.mock.method(stream, 'write', (chunk: string | Uint8Array) => {
      // The test runner reports through the same stream, in bytes.
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
