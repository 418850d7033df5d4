/** `check`: looks at everything a start needs, and says of each thing that fails what to do about it. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import { loadConfig, type PusherConfig } from '../config/load.ts';
import type { SnsOptions } from '../config/options.ts';
import { messageOf } from '../errors.ts';
import { loadPlugin } from '../notification/plugin.ts';
import { openDatabase } from '../outbox/schema.ts';
import { openAccount } from '../sns/account.ts';
import type { SnsClient } from '../sns/client.ts';
import { verdictOf } from '../sns/verdict.ts';
import { configOption } from './options.ts';

/** One thing that was looked at. */
interface Finding {
  readonly what: string;
  readonly ok: boolean;
  readonly detail: string;
}

export function checkCommand(): Command {
  return new Command('check')
    .description('Look at the configuration, the plugin, the outbox, and each topic at SNS. Sends no notification.')
    .addOption(configOption())
    .action(async ({ config: file }: { config: string }) => {
      let failed = false;
      for await (const { what, ok, detail } of findings(file)) {
        process.stdout.write(`${ok ? 'ok  ' : 'FAIL'}  ${what}: ${detail}\n`);
        failed ||= !ok;
      }
      if (failed) process.exitCode = 1;
    });
}

async function* findings(file: string): AsyncGenerator<Finding> {
  let config: PusherConfig;
  try {
    config = loadConfig(file);
  } catch (error) {
    yield { what: 'configuration', ok: false, detail: messageOf(error) };
    return;
  }
  yield { what: 'configuration', ok: true, detail: config.file };
  yield outbox(config);
  for (const [host, options] of [['', config.sns] as const, ...config.hosts]) {
    if (!options) continue;
    yield await plugin(options, config.file, host);
    yield* topics(options, path.dirname(config.file), host);
  }
}

function outbox({ file, outbox: { path: name } }: PusherConfig): Finding {
  const where = path.resolve(path.dirname(file), name);
  if (!existsSync(where)) {
    const folder = path.dirname(where);
    if (existsSync(folder)) return { what: 'outbox', ok: true, detail: `${where} will be made at the first start` };
    return {
      what: 'outbox',
      ok: false,
      detail: `the folder ${folder} does not exist: make it, or correct outbox.path`,
    };
  }
  try {
    const database = openDatabase(where, { create: false });
    const verdict = Object.values(database.prepare('PRAGMA quick_check(1)').get() ?? {})[0];
    const holes = Number(database.prepare('SELECT sum(missing) AS n FROM source').get()?.n ?? 0);
    database.close();
    if (verdict !== 'ok')
      return { what: 'outbox', ok: false, detail: `${where} is damaged (${verdict}): restore it from a backup` };
    const lost = holes > 0 ? `; ${holes} events are missing in the numbers of its sources` : '';
    return { what: 'outbox', ok: true, detail: `${where} can be written${lost}` };
  } catch (error) {
    return { what: 'outbox', ok: false, detail: messageOf(error) };
  }
}

const of = (host: string) => (host === '' ? '' : ` (${host})`);

async function plugin({ plugin_module: name }: SnsOptions, configFile: string, host: string): Promise<Finding> {
  const what = `plugin${of(host)}`;
  try {
    const functions = Object.keys(await loadPlugin(name, configFile));
    return { what, ok: true, detail: `${name}${functions.length > 0 ? ` with ${functions.join(', ')}` : ''}` };
  } catch (error) {
    return { what, ok: false, detail: messageOf(error) };
  }
}

async function* topics(options: SnsOptions, folder: string, host: string): AsyncGenerator<Finding> {
  const { client, topics } = openAccount(options, folder);
  const byKind = Object.entries(topics);
  if (byKind.length === 0)
    yield { what: `topics${of(host)}`, ok: false, detail: 'none is configured, so nothing is published' };
  for (const [kind, arn] of byKind) yield { what: `${kind} topic${of(host)}`, ...(await topic(client, arn)) };
  client.destroy();
}

/**
 * Whether SNS knows a topic and lets this key publish to it. The second is asked with a message that is empty, which SNS
 * refuses for its emptiness once it has let the key through; so nobody gets anything.
 */
async function topic(client: SnsClient, arn: string): Promise<{ ok: boolean; detail: string }> {
  const questions: { Action: string; parameters: Record<string, string> }[] = [
    { Action: 'GetTopicAttributes', parameters: {} },
    { Action: 'Publish', parameters: { Message: '' } },
  ];
  for (const { Action, parameters } of questions) {
    const outcome = await client.call({ Action, TopicArn: arn, ...parameters });
    if (!('failure' in outcome)) continue;
    const verdict = verdictOf(outcome.failure);
    // Reading a topic's attributes is a right of its own, which a publisher need not have.
    if (Action === 'GetTopicAttributes' && /^(AuthorizationError|AccessDenied)/.test(verdict.reason)) continue;
    if (verdict.kind === 'dead') continue;
    const advice = 'advice' in verdict ? verdict.advice : 'check sns_host, the network and proxies on the way';
    return { ok: false, detail: `${arn}: ${verdict.reason}: ${verdict.detail}; ${advice}` };
  }
  return { ok: true, detail: `${arn} exists and this key may publish to it` };
}
