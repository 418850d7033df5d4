/** Finds a command's configuration, and reads it with the variables of the file `environment` beside it. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { quotedCommand } from '../config/commands.ts';
import { type EnvFileState, readEnvFile } from '../config/env-file.ts';
import { CONFIG_VARIABLE, findConfig, isForeign, SYSTEM_CONFIG } from '../config/find.ts';
import { type LoadOptions, loadConfig, type PusherConfig } from '../config/load.ts';
import { messageOf, PusherError } from '../errors.ts';

/** `--config` and `--env-file`, options of every command that needs a configuration. */
export interface ConfigFlags {
  readonly config?: string;
  readonly envFile?: string;
}

/**
 * Finds and reads the configuration.
 * @throws PusherError CONFIG_UNREADABLE, CONFIG_INVALID
 */
export function readConfig(flags: ConfigFlags, options: LoadOptions = {}): PusherConfig {
  const file = configFileOf(flags);
  try {
    return withEnvFile(file, flags, () => loadConfig(file, process.env, options));
  } catch (error) {
    if (!(error instanceof PusherError)) throw error;
    const hint = hintFor(file, error);
    throw hint === undefined ? error : new PusherError(error.code, `${error.message}\n  ${hint}`, error);
  }
}

/** What helps beside correcting the file. */
function hintFor(file: string, error: PusherError): string | undefined {
  if (isExample(file)) return `it is the package's example as it came: ${quotedCommand(['init'], file)} fills it in`;
  if (error.code === 'CONFIG_UNREADABLE' && /EACCES/.test(error.message)) return 'run the command as root, with sudo';
  return undefined;
}

const EXAMPLE = new URL('../../deploy/systemd/pusher.toml', import.meta.url);

/** Whether a configuration is a package's unchanged example. */
export function isExample(file: string): boolean {
  try {
    return readFileSync(file).equals(readFileSync(EXAMPLE));
  } catch {
    return false; // A file that can't be read is reported by whoever needs it.
  }
}

/**
 * The path of the configuration for a command; undefined where there is none.
 * @throws PusherError CONFIG_UNREADABLE where the one in the working directory belongs to another user
 */
export function findOwnConfig({ config }: ConfigFlags): string | undefined {
  const file = findConfig(config);
  const isFound = config === undefined && !process.env[CONFIG_VARIABLE];
  if (file === undefined || !isFound || path.isAbsolute(file) || !isForeign(file)) return file;
  throw new PusherError(
    'CONFIG_UNREADABLE',
    `${path.resolve(file)} belongs to another user, who could make this command load any plugin: name the configuration with --config`,
  );
}

/** The path of the configuration. @throws PusherError CONFIG_UNREADABLE where there is none */
function configFileOf(flags: ConfigFlags): string {
  const file = findOwnConfig(flags);
  if (file !== undefined) return file;
  throw new PusherError(
    'CONFIG_UNREADABLE',
    `there is no configuration: neither ${path.resolve('pusher.toml')} nor ${SYSTEM_CONFIG} exists; ` +
      `name it with --config or ${CONFIG_VARIABLE}, or make one with ${quotedCommand(['init'])}`,
  );
}

/**
 * Reads a part of a configuration with the variables of its file `environment`.
 * @throws what `read` throws; for a missing variable, with the problem of that file
 */
export function withEnvFile<T>(file: string, { envFile }: ConfigFlags, read: () => T): T {
  const beside = path.join(path.dirname(path.resolve(file)), 'environment');
  const state = readEnvFile(envFile ?? beside, { named: envFile !== undefined });
  // The file beside the configuration may be readable by root only: systemd reads it for the unprivileged daemon.
  if (envFile !== undefined && state.fault) {
    state.undo();
    throw new PusherError('CONFIG_UNREADABLE', `can't read --env-file ${envFile}: ${state.fault.message}`, state.fault);
  }
  try {
    return read();
  } catch (error) {
    state.undo();
    const isUnset = error instanceof PusherError && messageOf(error).includes(UNSET);
    if (!isUnset) throw error;
    throw new PusherError(error.code, [error.message, ...explain(state)].join('\n'), error);
  }
}

/** `loadConfig`'s message for a missing variable. */
const UNSET = 'which is not set in the environment';

function explain({ file, fault, ignored }: EnvFileState): string[] {
  if (fault?.code === 'ENOENT')
    return [`  ${file} can also set variables, as NAME=value, but does not exist (--env-file names another)`];
  if (fault?.code === 'EACCES')
    return [
      `  ${file}, which can also set variables, is not readable by this user: run the command as root, with sudo`,
    ];
  if (fault) return [`  ${file}, which can also set variables, can't be read: ${fault.message}`];
  const lines = ignored.length === 0 ? '' : `; line ${ignored.join(', ')} there is not NAME=value and is ignored`;
  return [`  it is not set in ${file} either${lines}`];
}
