/** Prosody's configuration as Prosody itself reads it: a program in Lua, which includes others. */
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { PusherError } from '../../../errors.ts';
import { luaString } from '../../../quote.ts';
import { ADAPTERS, assertReadable } from '../files.ts';

export interface ProsodyConfiguration {
  /** `prosody.cfg.lua`. */
  readonly file: string;
  /** Every file that was read: this one, and those that it includes. */
  readonly files: readonly string[];
  readonly hosts: readonly VirtualHost[];
  /** The option `plugin_paths`; empty where it is not set. */
  readonly pluginPaths: readonly string[];
  /** The folder of `prosodyctl install`, in LuaRocks' layout. */
  readonly installer: string | undefined;
  /** The folders of Prosody's own modules and libraries. */
  readonly source: string;
}

export type VirtualHost = z.infer<typeof virtualHost>;

const virtualHost = z.object({
  name: z.string(),
  /** Whether it has its own `modules_enabled`, which a second one would replace. */
  own_list: z.boolean(),
  enabled: z.boolean(),
  /** Whether `modules_disabled` names the adapter. */
  disabled: z.boolean(),
  /** Whether clients can log in at all. */
  login: z.boolean(),
  url: z.string().optional(),
  secret: z.string().optional(),
  /** The folder of the adapter's queue. */
  queue: z.string(),
});

/** Lua has one type for lists and maps: an empty one may come as either. */
const list = <T extends z.ZodType>(item: T) => z.union([z.array(item), z.strictObject({}).transform(() => [])]);

const answer = z.object({
  hosts: list(virtualHost),
  files: list(z.string()),
  plugin_paths: list(z.string()),
  installer: z.string().optional(),
  source: z.string(),
});

const PROBE = 'mod_event_pusher_probe';

/**
 * Reads the configuration with `prosodyctl`.
 * @param file `prosody.cfg.lua`; without it, the one in the folder that Prosody was built for
 * @throws PusherError ADAPTER_INSTALL when there is no `prosodyctl`, or it can't read the configuration
 */
export function readProsody(file = defaultFile()): ProsodyConfiguration {
  const folder = mkdtempSync(path.join(tmpdir(), 'event-pusher-'));
  try {
    // When root starts prosodyctl, it switches to Prosody's user.
    chmodSync(folder, 0o755);
    const wrapper = path.join(folder, 'prosody.cfg.lua');
    copyFileSync(path.join(ADAPTERS, 'prosody/probe', `${PROBE}.lua`), path.join(folder, `${PROBE}.lua`));
    writeFileSync(wrapper, `Include ${luaString(path.resolve(file))}\nplugin_paths = { ${luaString(folder)} }\n`);
    for (const each of [wrapper, path.join(folder, `${PROBE}.lua`)]) chmodSync(each, 0o644);
    const said = prosodyctl(['--config', wrapper, PROBE, path.resolve(file)]);
    const line = /^probe: (.*)$/m.exec(said)?.[1];
    if (line === undefined) throw unreadable(file, said);
    const { hosts, files: read, plugin_paths: pluginPaths, installer, source } = answer.parse(JSON.parse(line));
    const named = hosts.toSorted((a, b) => a.name.localeCompare(b.name));
    // The wrapper has included them once, and the probe read them again.
    const files = new Set([path.resolve(file), ...read.map((each) => path.resolve(each))]);
    files.delete(wrapper);
    return { file: path.resolve(file), files: [...files], hosts: named, pluginPaths, installer, source };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function defaultFile(): string {
  const said = prosodyctl(['about']);
  const folder = /^Config directory:\s*(\S.*?)\s*$/m.exec(said)?.[1];
  if (folder === undefined) throw unreadable('prosody.cfg.lua', said);
  return path.join(folder, 'prosody.cfg.lua');
}

function prosodyctl(args: string[]): string {
  const { error, stdout, stderr } = spawnSync('prosodyctl', args, { encoding: 'utf8' });
  if (!error) return `${stdout}${stderr}`;
  const problem = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'is not on the PATH' : error.message;
  throw new PusherError(
    'ADAPTER_INSTALL',
    `prosodyctl ${problem}: run this on Prosody's machine, or pass its module folder with --to`,
  );
}

function unreadable(file: string, said: string): PusherError {
  assertReadable(/^We looked for: (.*)$/m.exec(said)?.[1] ?? file);
  const lines = said.split('\n').filter((line) => line.includes(path.basename(file)));
  const reason = (lines.length > 0 ? lines : said.trim().split('\n').slice(-3)).join('\n');
  return new PusherError(
    'ADAPTER_INSTALL',
    `prosodyctl can't read ${file} (--server-config names another):\n${reason}`,
  );
}

/** Where a host's options of the adapter are set, as text: one file, or several that may set them. */
export function placeOfOptions(config: ProsodyConfiguration, { name, url }: VirtualHost): string {
  const setting = filesWith(config, (text) => /\bevent_pusher_(url|secret)\b/.test(text));
  // The host's own options win over those for all hosts.
  const own = setting.filter(({ text }) => text.includes(luaString(name)) || text.includes(`'${name}'`));
  const literally = (some: typeof setting) =>
    some.filter(({ text }) => url !== undefined && text.includes(luaString(url)));
  const [found] = [literally(own), own, literally(setting), setting].filter((some) => some.length > 0);
  return found?.map(({ file }) => file).join(' or ') ?? `${config.file} or a file that it includes`;
}

/** The files that have the adapter or an option of it; `prosody.cfg.lua` if none can be seen to. */
export function filesNaming(config: ProsodyConfiguration): string[] {
  const found = filesWith(config, (text) => /\bevent_pusher/.test(text)).map(({ file }) => file);
  return found.length > 0 ? found : [config.file];
}

/** The files that were read whose text, without comments, is such. */
const filesWith = (
  { files }: ProsodyConfiguration,
  isSuch: (text: string) => boolean,
): { file: string; text: string }[] =>
  files.map((file) => ({ file, text: textOf(file).replace(/^\s*--.*$/gm, '') })).filter(({ text }) => isSuch(text));

/** A file's text; empty if only Prosody may read it. */
function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (['EACCES', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '')) return '';
    throw error;
  }
}

/**
 * Problems of hosts whose list of modules was replaced by one with the adapter alone: release 0.1.0 printed such a
 * list, to be added beside the existing one.
 */
export const replacedLists = ({ hosts, file }: ProsodyConfiguration): string[] =>
  hosts
    .filter(({ enabled, login }) => enabled && !login)
    .map(
      ({ name }) =>
        `nobody can log in to ${name}, which has no saslauth in modules_enabled: a second modules_enabled in ${file} replaces the first, so add "event_pusher" to the first one`,
    );
