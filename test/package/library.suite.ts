/**
 * The library as others install it: the result of `npm pack` in a project with only the package's own dependencies. Its
 * types compile without `skipLibCheck`, the examples run, and two package linters pass.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, globSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type Packed, packedOnce } from '../support/packed.ts';
import { launch, until } from '../support/process.ts';
import { startStubSns } from '../support/stub-sns.ts';

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MODULES = path.join(ROOT, 'node_modules');

/** What the examples and their compilation need besides the package. */
const OF_THE_PROJECT = [
  'typescript',
  '@types/node',
  '@types/aws-lambda',
  '@aws-sdk/client-sqs',
  '@aws-sdk/client-dynamodb',
];

describe('the library', () => {
  let folder: string;
  let project: string;
  let packed: Packed;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'library-'));
    packed = await packedOnce();
    project = path.join(folder, 'project');
    const modules = path.join(project, 'node_modules');
    mkdirSync(modules, { recursive: true });
    cpSync(packed.content, path.join(modules, 'xmpp-event-pusher'), { recursive: true });
    for (const name of [...productionModules(), ...OF_THE_PROJECT]) {
      mkdirSync(path.dirname(path.join(modules, name)), { recursive: true });
      try {
        symlinkSync(path.join(MODULES, name), path.join(modules, name));
      } catch (error) {
        if ((error as { code?: string }).code !== 'EEXIST') throw error;
      }
    }
    cpSync(path.join(ROOT, 'examples'), project, { recursive: true });
    writeFileSync(path.join(project, 'package.json'), '{ "type": "module", "private": true }');
    writeFileSync(path.join(project, 'every-name.ts'), everyName());
  });
  after(() => rm(folder, { recursive: true, force: true }));

  /** The modules of an installation of the package. */
  function productionModules(): string[] {
    const { packages } = JSON.parse(readFileSync(path.join(ROOT, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, { dev?: boolean }>;
    };
    return Object.entries(packages).flatMap(([at, { dev }]) => {
      const name = /^node_modules\/((?:@[^/]+\/)?[^/]+)$/.exec(at)?.[1];
      return name && !dev ? [name] : [];
    });
  }

  /** Uses the types as a host program does: a check of their content, not only of their existence. */
  const everyName = () => `
    import { createPusher, memoryOutbox, type Outbox, type Pusher, type Sink, type SnsPlugin, type Tap, type Verdict } from 'xmpp-event-pusher';
    const sink: Sink = {
      limits: () => ({ maxEntries: 10, maxBytes: 262_144 }),
      publish: async (_topic, entries): Promise<(Verdict | undefined)[]> => entries.map(() => undefined),
    };
    const plugin: SnsPlugin = {
      // A stanza that were \`any\` would let this pass without the directive.
      messageAttributes: (_topic, _from, _to, _type, stanza) => {
        // @ts-expect-error: there is no such method of a stanza
        stanza.noSuchMethod();
        return { thread: stanza.getChildText('thread') ?? 'none' };
      },
    };
    const outbox: Outbox = memoryOutbox();
    const tap: Tap = { name: 'mine', start: async () => {}, stop: async () => {}, state: () => ({ at: 'here' }) };
    const pusher: Pusher = await createPusher({ sink: { sink, topics: { pm: 'x' } }, plugin, outbox, taps: [tap] });
    pusher.on('delivered', ({ notification, at }) => void [notification.message.length, at.toFixed()]);
    pusher.on('deadLetter', ({ reason }) => void reason.length);
    // @ts-expect-error: there is no such event
    pusher.on('lost', () => {});
    await pusher.stop();
  `;

  for (const resolution of ['nodenext', 'bundler'] as const)
    it(`type-checks with all examples, strictly and without skipLibCheck, with ${resolution} resolution`, async () => {
      const config = path.join(project, `tsconfig.${resolution}.json`);
      const compilerOptions = {
        strict: true,
        noEmit: true,
        skipLibCheck: false,
        target: 'es2024',
        lib: ['es2024', 'esnext.disposable'],
        module: resolution === 'nodenext' ? 'nodenext' : 'preserve',
        moduleResolution: resolution,
        types: ['node'],
        allowImportingTsExtensions: true,
        erasableSyntaxOnly: true,
      };
      writeFileSync(config, JSON.stringify({ compilerOptions, include: ['*.ts'] }));
      await run(path.join(MODULES, '.bin/tsc'), ['-p', config]).catch(({ stdout }) => assert.fail(stdout));
    });

  it('runs the example of a host program', async () => {
    const arrived: string[] = [];
    await using sns = await startStubSns({ accepted: ({ message }) => void arrived.push(message) });
    const env = {
      ...process.env,
      SNS_ENDPOINT: sns.url,
      TAP_SECRET: 'a-secret-of-the-example',
      OUTBOX: path.join(folder, 'o.db'),
    };
    const child = await launch(process.execPath, [path.join(project, 'embedded.ts')], { env });
    await until('its end', () => !child.running);
    assert.equal(await child.exited, 0, child.output());
    assert.match(child.output(), /^accepted 3$/m);
    assert.deepEqual(arrived.toSorted(), [
      '{"to_user_id":"bob","message":"Hello, Bob","from_user_id":"alice"}',
      '{"user_id":"alice","present":true}',
    ]);
  });

  it('loads each of its examples as a module', async () => {
    const plugins = globSync('plugin*.{ts,js}', { cwd: project });
    assert.ok(plugins.length > 1);
    for (const plugin of plugins)
      await run(process.execPath, [
        '--input-type=module',
        '-e',
        `await import(${JSON.stringify(path.join(project, plugin))})`,
      ]);
  });

  it('source maps include the sources they refer to', () => {
    const dist = path.join(packed.content, 'dist');
    const maps = globSync('**/*.js.map', { cwd: dist });
    assert.ok(maps.length > 50);
    for (const file of maps) {
      const { sources, sourcesContent } = JSON.parse(readFileSync(path.join(dist, file), 'utf8'));
      assert.equal(sourcesContent?.length, sources.length, file);
    }
  });

  it('the package passes publint and attw', async () => {
    const { stdout } = await run(path.join(MODULES, '.bin/publint'), [packed.tarball, '--strict']).catch(
      ({ stdout, stderr }) => assert.fail(stdout + stderr),
    );
    assert.match(stdout, /All good!/);
    const attw = [packed.tarball, '--profile', 'esm-only', '--no-emoji', '--format', 'json'];
    await run(path.join(MODULES, '.bin/attw'), attw).catch(({ stdout }) => assert.fail(stdout));
  });
});
