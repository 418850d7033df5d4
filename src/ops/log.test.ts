import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { launch } from '../../test/support/process.ts';

/** What the log writes for calls on `log`, as a process of its own, for it writes to standard output itself. */
async function logged(level: string, calls: string): Promise<Record<string, unknown>[]> {
  const module = new URL('./log.ts', import.meta.url).href;
  const script = `import { createLogger } from '${module}'; const log = createLogger('${level}'); ${calls}`;
  const child = await launch(process.execPath, ['--input-type=module', '-e', script]);
  assert.equal(await child.exited, 0, child.output());
  const text = child.output().trimEnd();
  return text === '' ? [] : text.split('\n').map((line) => JSON.parse(line));
}

describe('the log', () => {
  it('writes JSON lines from the requested level on', async () => {
    const lines = await logged('warn', "log.info('quiet'); log.warn({ topic: 't' }, 'warned'); log.error('failed');");
    assert.deepEqual(
      lines.map(({ time, ...line }) => {
        assert.match(String(time), /^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
        return line;
      }),
      [
        { level: 'warn', topic: 't', msg: 'warned' },
        { level: 'error', msg: 'failed' },
      ],
    );
    assert.deepEqual(await logged('silent', "log.fatal('nothing');"), []);
  });

  it('writes essential lines at any level except none', async () => {
    const module = new URL('./log.ts', import.meta.url).href;
    const calls = `const { atAnyLevel } = await import('${module}');
      log.info('quiet'); atAnyLevel(log).info({ token: 'hidden' }, 'said');`;
    const [line, ...more] = await logged('error', calls);
    assert.deepEqual([line?.level, line?.msg, line?.token, more], ['info', 'said', '[Redacted]', []]);
    assert.deepEqual(await logged('silent', calls), []);
  });

  it('writes its last line, however the process ends', async () => {
    const module = new URL('./log.ts', import.meta.url).href;
    const script = `import { createLogger } from '${module}';
      createLogger('info').info('last'); process.kill(process.pid, 'SIGKILL');`;
    const child = await launch(process.execPath, ['--input-type=module', '-e', script]);
    assert.equal(await child.exited, null);
    assert.match(child.output(), /"msg":"last"/);
  });

  it('never shows message texts or secrets, at the top or one level down', async () => {
    const fields = [
      'body',
      'message',
      'stanza',
      'secret',
      'secret_access_key',
      'authorization',
      'token',
      'sessionToken',
    ];
    const object = JSON.stringify(Object.fromEntries(fields.map((field) => [field, 'hidden'])));
    const lines = await logged('info', `log.info(${object}, 'top'); log.info({ inside: ${object} }, 'inside');`);
    assert.equal(lines.length, 2);
    assert.doesNotMatch(JSON.stringify(lines), /hidden/);
  });
});
