/**
 * `check`: examines the prerequisites of a start, or asks the running daemon, and reports each finding with its meaning
 * and the remedy. It fails if the daemon would not be ready.
 */
import { X509Certificate } from 'node:crypto';
import path from 'node:path';
import { Command } from 'commander';
import { shadowedVariables } from '../config/env-file.ts';
import type { PusherConfig } from '../config/load.ts';
import type { SnsOptions } from '../config/sns-options.ts';
import { messageOf } from '../errors.ts';
import { json, printableLines } from '../format.js';
import { loadPlugin } from '../notification/plugins.ts';
import type { State } from '../ops/state.ts';
import { examineAccount } from '../sns/check/account.ts';
import { type Finding, failed } from '../sns/check/diagnosis.ts';
import { readCertificate } from '../taps/http/certificate.ts';
import { examineAddresses, examineDaemon } from './check-daemon.ts';
import { examineOpenOutbox, examineOutbox } from './check-outbox.ts';
import { examineRabbit } from './check-outbox-broker.ts';
import { rabbitFindings } from './check-rabbitmq.ts';
import { type ConfigFlags, readConfig } from './configuration.ts';
import { findDaemon } from './find-daemon.ts';
import { configurable } from './options.ts';

interface CheckOptions extends ConfigFlags {
  publish?: boolean;
  json?: boolean;
}

export function checkCommand(): Command {
  return configurable(new Command('check'))
    .description(
      "Check the configuration, the daemon or what it needs (outbox, addresses), the tap's certificate, RabbitMQ if it is used, the plugins, and each topic at SNS. Sends no notification.",
    )
    .option(
      '--publish',
      "send a real message to each topic: only that shows whether this key may use the topic's KMS key",
    )
    .option('--json', 'JSON lines')
    .action(async (options: CheckOptions) => {
      if (!(await check(options))) process.exitCode = 1;
    });
}

/** Prints its findings; returns whether the daemon is ready, or would be. */
export async function check(options: CheckOptions): Promise<boolean> {
  let ok = true;
  for await (const finding of findings(options)) {
    process.stdout.write(`${options.json ? json(finding) : printableLines(textOf(finding))}\n`);
    ok &&= finding.level !== 'fail';
  }
  return ok;
}

function textOf(finding: Finding): string {
  const { what, level, seen } = finding;
  if (level === 'ok') return `ok    ${what}: ${seen}`;
  const indent = (text: string) => text.replaceAll('\n', `\n${' '.repeat(13)}`);
  const { reason, means, advice } = finding;
  const observed = reason === undefined ? seen : `${reason}: ${seen}`;
  return `${level === 'fail' ? 'FAIL' : 'warn'}  ${what}: ${indent(observed)}\n      means  ${indent(means)}\n      do     ${indent(advice)}`;
}

async function* findings({ publish = false, ...flags }: CheckOptions): AsyncGenerator<Finding> {
  let config: PusherConfig;
  try {
    config = readConfig(flags);
  } catch (error) {
    yield failed('configuration', messageOf(error), 'the daemon would not start', 'correct it');
    return;
  }
  yield { what: 'configuration', level: 'ok', seen: config.file };
  yield* environmentFindings();
  yield* daemonFindings(config);
  yield* certificateFindings(config);
  yield* rabbitFindings(config);
  for (const [host, options] of [['', config.sns] as const, ...config.hosts]) {
    if (!options) continue;
    const of = host === '' ? '' : ` (${host})`;
    yield await pluginFinding(options, config.file, `plugin${of}`);
    for await (const finding of examineAccount(options, { configFile: config.file, publish }))
      yield { ...finding, what: `${finding.what}${of}` };
  }
}

/** A key that was exported in a shell says nothing about the service's. */
function* environmentFindings(): Generator<Finding> {
  const names = shadowedVariables();
  if (names.length === 0) return;
  yield {
    what: 'environment',
    level: 'warn',
    seen: `this shell has other values than the file for ${names.join(', ')}`,
    means: "the findings are of the shell's values; the service has those of the file",
    advice: `run \`unset ${names.join(' ')}\` and check again, or correct the file`,
  };
}

/** Checks the daemon, its outbox and its addresses; asks the running daemon where possible. */
async function* daemonFindings(config: PusherConfig): AsyncGenerator<Finding> {
  const asked = await findDaemon(config);
  if (asked.kind === 'none') {
    yield* examineOutbox(config);
    yield* await examineRabbit(config);
    yield* await examineAddresses(config);
  } else if (asked.kind === 'silent') {
    yield failed(
      'daemon',
      asked.reason,
      "the daemon is running, but its state can't be read",
      "use the daemon's own configuration, as the daemon's user or root",
    );
  } else {
    try {
      const state = await asked.daemon.get<State>('/api/state');
      yield* examineDaemon(asked.daemon, state);
      yield* examineOpenOutbox(config, state);
    } finally {
      await asked.daemon.close();
    }
  }
}

function* certificateFindings({ file, tap }: PusherConfig): Generator<Finding> {
  const what = 'certificate';
  try {
    const found = readCertificate(tap.http, path.dirname(file));
    if (!found) return;
    const { subject, validTo } = new X509Certificate(found.cert);
    const seen = `${tap.http.tls_cert} of ${subject.replaceAll('\n', ', ')} expires on ${validTo}`;
    if (Date.parse(validTo) > Date.now()) yield { what, level: 'ok', seen };
    else yield failed(what, seen, 'adapters that verify certificates reject it from then on', 'renew it, and reload');
  } catch (error) {
    yield failed(what, messageOf(error), 'the daemon would not start', 'correct tls_cert and tls_key, or the files');
  }
}

async function pluginFinding({ plugin_module: name }: SnsOptions, configFile: string, what: string): Promise<Finding> {
  try {
    const functions = Object.keys(await loadPlugin(name, configFile));
    return { what, level: 'ok', seen: `${name}${functions.length > 0 ? ` with ${functions.join(', ')}` : ''}` };
  } catch (error) {
    return failed(what, messageOf(error), 'the daemon would not start', 'correct plugin_module, or the module');
  }
}
