/** Commands named in messages can be pasted into a shell, and use the same configuration. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { createProgram } from '../src/cli/main.ts';
import { commandTo } from '../src/config/commands.ts';
import { diagnoseTopic } from '../src/sns/check/topic.ts';
import { explain } from '../src/sns/explain.ts';
import type { Circumstances, Failure } from '../src/sns/failure.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const CONFIG = "/srv/our pusher/it's.toml";
const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:events';
const KEY = 'arn:aws:kms:eu-west-1:123456789012:key/1';
const NAMES = (await createProgram()).commands.map((command) => command.name()).join('|');
const COMMAND = new RegExp(`xmpp-event-pusher (?:${NAMES})\\b[^\`\\n]*`, 'g');

const about: Circumstances = {
  endpoint: new URL('https://sns.eu-west-1.amazonaws.com'),
  region: 'eu-west-1',
  accountId: '123456789012',
  credentials: 'static',
  configFile: CONFIG,
  topicArn: TOPIC,
};
const refusal = (code: string, status = 403, message = ''): Failure => ({ kind: 'request', code, status, message });

/** Splits a command line as a shell does. */
const wordsOf = (line: string): string[] =>
  execFileSync('sh', ['-c', `printf '%s\\0' ${line}`], { encoding: 'utf8' })
    .split('\0')
    .slice(0, -1);

/** Parses a command line without running it; returns its options. */
async function parse(line: string): Promise<Record<string, unknown>> {
  const program = (await createProgram()).configureOutput({ writeErr: () => {} });
  let found: Record<string, unknown> = {};
  const visit = (command: Command) => {
    if (command.commands.length === 0)
      command.action(() => {
        found = command.opts();
      });
    command.commands.forEach(visit);
  };
  visit(program);
  await program.parseAsync(['node', ...wordsOf(line)]);
  return found;
}

/** The commands in a text: in backquotes, or on their own line. */
const commandsIn = (text: string): string[] => text.match(COMMAND) ?? [];

describe('commands in messages', () => {
  const explained = (failure: Failure, more: Partial<Circumstances> = {}) =>
    explain(failure, { ...about, ...more }).advice;
  const examined = (attributes: Failure | string, more: Partial<Circumstances> = {}) =>
    diagnoseTopic(
      {
        arn: TOPIC,
        attributes: typeof attributes === 'string' ? { xml: attributes, skewMs: undefined } : { failure: attributes },
        publish: { failure: refusal('InvalidParameter', 400, 'Invalid parameter: Empty message') },
        published: false,
        sibling: undefined,
      },
      { ...about, ...more },
    )
      .map((found) => ('advice' in found ? found.advice : ''))
      .join('\n');
  const encrypted = `<GetTopicAttributesResponse><GetTopicAttributesResult><Attributes><entry><key>KmsMasterKeyId</key><value>${KEY}</value></entry></Attributes></GetTopicAttributesResult></GetTopicAttributesResponse>`;

  for (const [what, text, expected] of [
    ['a missing topic', explained(refusal('NotFound', 404)), 'topics create'],
    ['a missing permission', explained(refusal('AuthorizationError')), 'iam-policy'],
    ['a refused key', explained(refusal('Nonsense', 401)), 'check'],
    ['an unknown KMS key', explained(refusal('KMSAccessDenied', 400)), 'iam-policy'],
    ['a KMS key', explained(refusal('KMSAccessDenied', 400), { kmsKey: KEY }), `iam-policy --kms-key ${KEY}`],
    ['unreadable attributes', examined(refusal('AuthorizationError')), 'check --publish'],
    ['an encrypted topic', examined(encrypted), 'check --publish'],
  ] as const)
    it(`commands in messages work unchanged: at ${what}`, async () => {
      const commands = commandsIn(text ?? '');
      assert.ok(commands.length > 0, text);
      for (const command of commands) assert.equal((await parse(command)).config, CONFIG, command);
      assert.ok(
        commands.some((command) => command.startsWith(`xmpp-event-pusher ${expected} `)),
        text,
      );
    });

  it('messages name no configuration in a program that uses the library', () => {
    for (const code of ['NotFound', 'AuthorizationError', 'KMSAccessDenied'])
      assert.doesNotMatch(explained(refusal(code, 400), { configFile: undefined }), /xmpp-event-pusher|undefined/);
  });

  const sourceLines = globSync('src/**/*.ts', { cwd: ROOT })
    .filter((file) => !/\.test\.ts$/.test(file))
    .flatMap((file) =>
      readFileSync(path.join(ROOT, file), 'utf8')
        .split('\n')
        .map((line) => `${file}: ${line}`),
    )
    .filter((line) => !/: \s*(\*|\/\*\*|\/\/)/.test(line));

  it('one function makes all commands in messages, so that each names its configuration', () => {
    assert.deepEqual(
      sourceLines.filter((line) => new RegExp(COMMAND).test(line)),
      [],
    );
  });

  it('a name that others chose is never an option of a command in a message', async () => {
    for (const name of ['--all', '--config=/evil.toml', "x'; y", 'prosody@a']) {
      const words = wordsOf(commandTo(['sources', 'acknowledge'], CONFIG, name));
      assert.ok(name.startsWith('-') ? words.at(-2) === '--' && words.at(-1) === name : words.includes(name));
      assert.deepEqual(await parse(commandTo(['sources', 'acknowledge'], CONFIG, name)), { config: CONFIG });
    }
  });

  it("no message names a command without the program's name", async () => {
    const pairs = (await createProgram()).commands.flatMap((command) =>
      command.commands.map((each) => `${command.name()} ${each.name()}`),
    );
    const short = new RegExp(`\`(?:${pairs.join('|')})\\b`);
    // The help of an option or argument may be brief.
    const found = sourceLines.filter((line) => short.test(line) && !/\.(option|argument)\(/.test(line));
    assert.deepEqual(found, []);
  });

  it('commands on the console and in alerts are complete without a configuration', async () => {
    const files = [
      'src/ops/console/index.html',
      'deploy/prometheus/alerts.yml',
      'deploy/kubernetes/xmpp-event-pusher.yaml',
    ];
    const commands = files.flatMap((file) =>
      commandsIn(readFileSync(path.join(ROOT, file), 'utf8').replaceAll('<', '`')),
    );
    assert.ok(commands.length > 4, `${commands.length} commands`);
    for (const command of commands) await parse(command.replace(/ prints.*/, ''));
  });
});
