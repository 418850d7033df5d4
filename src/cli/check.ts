/**
 * `check`: looks at what a start needs, and says of each thing what was seen, what it means and what to do. Not at the
 * ports: where a daemon runs already, it has them.
 */
import { X509Certificate } from 'node:crypto';
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import { loadConfig, type PusherConfig } from '../config/load.ts';
import type { SnsOptions } from '../config/options.ts';
import { messageOf } from '../errors.ts';
import { loadPlugin } from '../notification/plugin.ts';
import { openDatabase } from '../outbox/sqlite/schema.ts';
import { examineAccount } from '../sns/check/account.ts';
import { type Finding, failed } from '../sns/check/diagnosis.ts';
import { readCertificate } from '../taps/http/certificate.ts';
import { configOption } from './options.ts';

interface CheckOptions {
  config: string;
  publish?: boolean;
  json?: boolean;
}

export function checkCommand(): Command {
  return new Command('check')
    .description(
      "Look at the configuration, the outbox, the tap's certificate, the plugins, and each topic at SNS. Sends no notification.",
    )
    .addOption(configOption())
    .option('--publish', 'send a real message to each topic: only that shows whether its KMS key may be used')
    .option('--json', 'JSON lines')
    .action(async (options: CheckOptions) => {
      for await (const finding of findings(options)) {
        process.stdout.write(`${options.json ? JSON.stringify(finding) : describe(finding)}\n`);
        if (finding.level === 'fail') process.exitCode = 1;
      }
    });
}

function describe(finding: Finding): string {
  const { what, level, seen } = finding;
  if (level === 'ok') return `ok    ${what}: ${seen}`;
  const indent = (text: string) => text.replaceAll('\n', `\n${' '.repeat(13)}`);
  const { reason, means, advice } = finding;
  const observed = reason === undefined ? seen : `${reason}: ${seen}`;
  return `${level === 'fail' ? 'FAIL' : 'warn'}  ${what}: ${indent(observed)}\n      means  ${indent(means)}\n      do     ${indent(advice)}`;
}

async function* findings({ config: file, publish = false }: CheckOptions): AsyncGenerator<Finding> {
  let config: PusherConfig;
  try {
    config = loadConfig(file);
  } catch (error) {
    yield failed('configuration', messageOf(error), 'the daemon would not start', 'correct the file');
    return;
  }
  yield { what: 'configuration', level: 'ok', seen: config.file };
  yield outbox(config);
  yield* certificate(config);
  for (const [host, options] of [['', config.sns] as const, ...config.hosts]) {
    if (!options) continue;
    const of = host === '' ? '' : ` (${host})`;
    yield await plugin(options, config.file, `plugin${of}`);
    for await (const finding of examineAccount(options, { configFile: config.file, publish }))
      yield { ...finding, what: `${finding.what}${of}` };
  }
}

function outbox({ file, outbox: { path: name } }: PusherConfig): Finding {
  const what = 'outbox';
  const where = path.resolve(path.dirname(file), name);
  if (!existsSync(where)) {
    const problem = folderProblem(path.dirname(where));
    if (problem) return failed(what, problem, 'the daemon would not start', 'mend that, or correct outbox.path');
    return { what, level: 'ok', seen: `${where} will be made at the first start` };
  }
  try {
    const database = openDatabase(where, { create: false });
    const verdict = Object.values(database.prepare('PRAGMA quick_check(1)').get() ?? {})[0];
    // SQLite lets a transaction on a file that can't be written begin as one that reads: only a change tells.
    database.exec('BEGIN IMMEDIATE; CREATE TABLE written (x); ROLLBACK;');
    const missing = Number(database.prepare('SELECT sum(missing) AS n FROM source').get()?.n ?? 0);
    database.close();
    if (verdict !== 'ok')
      return failed(what, `${where}: ${verdict}`, 'the file is damaged', 'restore it from a backup, or move it away');
    if (missing === 0) return { what, level: 'ok', seen: `${where} can be written` };
    return {
      what,
      level: 'warn',
      seen: `${missing} events are missing in the numbers of its sources`,
      means: "they never came: an adapter's queue was full and dropped the newest, or its files were lost",
      advice: "see the XMPP servers' logs for when",
    };
  } catch (error) {
    return failed(what, messageOf(error), 'the daemon would not start', 'mend that, and check again');
  }
}

function* certificate({ file, tap }: PusherConfig): Generator<Finding> {
  const what = 'certificate';
  try {
    const found = readCertificate(tap.http, path.dirname(file));
    if (!found) return;
    const { subject, validTo } = new X509Certificate(found.cert);
    const seen = `${tap.http.tls_cert} of ${subject.replaceAll('\n', ', ')} ends on ${validTo}`;
    if (Date.parse(validTo) > Date.now()) yield { what, level: 'ok', seen };
    else yield failed(what, seen, "adapters that check it don't take it any more", 'renew it, and reload');
  } catch (error) {
    yield failed(what, messageOf(error), 'the daemon would not start', 'correct tls_cert and tls_key, or the files');
  }
}

/** Why no file can be made in a folder; undefined when one can. */
function folderProblem(folder: string): string | undefined {
  const found = statSync(folder, { throwIfNoEntry: false });
  if (!found) return `the folder ${folder} does not exist`;
  if (!found.isDirectory()) return `${folder} is no folder`;
  try {
    accessSync(folder, constants.W_OK | constants.X_OK);
    return undefined;
  } catch (error) {
    return `the folder ${folder} can't be written by this user: ${messageOf(error)}`;
  }
}

async function plugin({ plugin_module: name }: SnsOptions, configFile: string, what: string): Promise<Finding> {
  try {
    const functions = Object.keys(await loadPlugin(name, configFile));
    return { what, level: 'ok', seen: `${name}${functions.length > 0 ? ` with ${functions.join(', ')}` : ''}` };
  } catch (error) {
    return failed(what, messageOf(error), 'the daemon would not start', 'correct plugin_module, or the module');
  }
}
