/** The lines for Prosody's configuration, in pieces that can be pasted unchanged. */
import path from 'node:path';
import { luaString, shellWord } from '../../../quote.ts';
import type { Printed, TapAccess } from '../server.ts';
import { type ProsodyConfiguration, placeOfOptions, replacedLists, type VirtualHost } from './configuration.ts';

/**
 * The lines for a configuration's virtual hosts. Each block has braces, so that it can be pasted anywhere: after a bare
 * `VirtualHost "name"`, all following lines would belong to that host.
 * @param fresh hosts that were configured just now
 */
export function forHosts(
  config: ProsodyConfiguration,
  folder: string,
  tap: TapAccess,
  fresh: readonly string[] = [],
): Printed {
  const { file, hosts, pluginPaths } = config;
  const isRight = ({ url, secret }: VirtualHost) => url === tap.url && secret === tap.secret;
  const had = hosts.filter(({ enabled }) => enabled);
  const right = had.filter(isRight);
  const wrong = had.filter((host) => !isRight(host));
  const without = hosts.filter(({ enabled, disabled }) => !enabled && !disabled);
  const disabled = hosts.filter((host) => host.disabled);
  const searched = pluginPaths.some((each) => path.resolve(each) === folder);
  const lines = [
    ...(searched ? [] : pluginPath(config, folder)),
    ...section(
      `Add at the end of ${file}:`,
      without.flatMap((host) => block(host, tap, !host.own_list)),
    ),
    ...without
      .filter(({ own_list }) => own_list)
      .flatMap(({ name }) =>
        section(`Add as the first entry of the modules_enabled of VirtualHost ${luaString(name)}:`, [
          '"event_pusher";',
        ]),
      ),
    ...wrong.flatMap((host) =>
      section(`WRONG: ${difference(host, tap)}. Correct it in ${placeOfOptions(config, host)}:`, options(tap)),
    ),
    ...replacedLists(config).flatMap((problem) => ['', `WRONG: ${problem}.`]),
    ...disabled.flatMap(({ name }) => ['', `WRONG: modules_disabled of ${name} names event_pusher. Remove it there.`]),
    ...(right.length > 0 ? ['', `Already configured: ${right.map(({ name }) => name).join(', ')}`] : []),
    ...(hosts.length === 0 ? ['', `${file} has no VirtualHost yet: run this again when it has one.`] : []),
    ...(hosts.length > 0
      ? starting(
          hosts.filter((host) => without.includes(host) || fresh.includes(host.name)),
          had.filter(({ name }) => !fresh.includes(name)),
          searched,
        )
      : []),
  ];
  return { lines, ok: wrong.length + disabled.length + replacedLists(config).length === 0 && hosts.length > 0 };
}

/** For a Prosody that can't be asked. */
export function forAnyHost(folder: string, tap: TapAccess): Printed {
  const host = { name: 'DOMAIN' };
  const lines = [
    ...section('Add as the first entry of plugin_paths in prosody.cfg.lua, if it is not there:', [
      `${luaString(folder)};`,
    ]),
    ...section('Add at the end of prosody.cfg.lua, for each domain:', block(host, tap, true)),
    ...section('if the domain has its own modules_enabled, add an entry there instead of that line:', [
      '"event_pusher";',
    ]),
    '',
    'Then restart Prosody.',
  ];
  return { lines, ok: true };
}

export function block({ name }: Pick<VirtualHost, 'name'>, tap: TapAccess, enable: boolean): string[] {
  const inside = [...(enable ? ['modules_enabled = { "event_pusher" }'] : []), ...options(tap)];
  return [`VirtualHost ${luaString(name)} {`, ...inside.map((line) => `  ${line};`), '}'];
}

const options = ({ url, secret }: TapAccess) => [
  `event_pusher_url = ${luaString(url)}`,
  `event_pusher_secret = ${luaString(secret)}`,
];

function pluginPath({ file, pluginPaths }: ProsodyConfiguration, folder: string): string[] {
  if (pluginPaths.length > 0)
    return section(`Add as the first entry of plugin_paths in ${file}:`, [`${luaString(folder)};`]);
  return section(`Add above the first VirtualHost of ${file}:`, [`plugin_paths = { ${luaString(folder)} }`]);
}

function difference({ name, url, secret }: VirtualHost, tap: TapAccess): string {
  const wrong = [
    ...(url === tap.url ? [] : [`event_pusher_url is ${url ?? 'not set'}`]),
    ...(secret === tap.secret
      ? []
      : [`event_pusher_secret is ${secret === undefined ? 'not set' : "not the daemon's"}`]),
  ];
  return `for ${name}, ${wrong.join(', and ')}`;
}

function starting(without: readonly VirtualHost[], had: readonly VirtualHost[], searched: boolean): string[] {
  if (!searched) return ['', 'Then restart Prosody, which reads plugin_paths only at its start.'];
  const commands = [
    ...without.map(({ name }) => `prosodyctl shell module load event_pusher ${shellWord(name)}`),
    ...had.map(({ name }) => `prosodyctl shell module reload event_pusher ${shellWord(name)}`),
  ];
  return section('Then restart Prosody, or, if mod_admin_shell is enabled, run:', [
    'prosodyctl shell config reload',
    ...commands,
  ]);
}

const section = (title: string, lines: readonly string[]): string[] =>
  lines.length === 0 ? [] : ['', title, '', ...lines.map((line) => `  ${line}`)];
