/** Finds the release and configuration of a MongooseIM on this machine. */
import { existsSync, globSync, readFileSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { PusherError } from '../../../errors.ts';
import { assertReadable } from '../files.ts';
import type { Where } from '../server.ts';

/** The module's folder for `erl`: `ERL_LIBS` names its parent, `-pa` the `ebin` in it. */
export const FOLDER = 'xmpp_event_pusher';
/** Outside the release, which an upgrade replaces. */
const DEFAULT_TO = '/usr/local/lib/xmpp-event-pusher/mongooseim';
const CONFIGS = ['/etc/mongooseim/mongooseim.toml', '/usr/lib/mongooseim/etc/mongooseim.toml'];

export interface Places {
  /** The folder for `ERL_LIBS`. */
  readonly to: string;
  readonly ebin: string;
  /** `mongooseim.toml`, `app.config` and `vm.args`; undefined if this machine has no MongooseIM. */
  readonly config: { readonly toml: string; readonly app: string; readonly vm: string } | undefined;
  /** The release's folder, with its virtual machine. */
  readonly release: string | undefined;
  /** The adapter's queues. */
  readonly queues: readonly string[];
}

/** @throws PusherError ADAPTER_INSTALL for a missing file, or a folder that vm.args can't name */
export function placesOf({ to: given = DEFAULT_TO, serverConfig }: Where): Places {
  const to = path.resolve(given);
  if (!/^[\w@%+=:,./-]+$/.test(to))
    throw new PusherError('ADAPTER_INSTALL', `${to}: vm.args does not allow these characters in a folder's name`);
  if (serverConfig !== undefined && !existsSync(serverConfig))
    throw new PusherError('ADAPTER_INSTALL', `there is no ${serverConfig}`);
  const toml = serverConfig ?? CONFIGS.find((file) => existsSync(file));
  const etc = toml === undefined ? undefined : path.dirname(path.resolve(toml));
  const beside = (name: string) => path.join(etc as string, name);
  const roots = [
    '/usr/lib/mongooseim',
    ...(toml === undefined ? [] : [path.resolve(path.dirname(realpathSync(toml)), '..')]),
  ];
  const release = roots.find((root) => existsSync(path.join(root, 'releases/start_erl.data')));
  const config = toml === undefined ? undefined : { toml, app: beside('app.config'), vm: beside('vm.args') };
  for (const each of config === undefined ? CONFIGS : Object.values(config)) assertReadable(each);
  return {
    to,
    ebin: path.join(to, FOLDER, 'ebin'),
    config,
    release,
    queues: [...queuesBeside(config?.app), ...globSync(`${release ?? '/usr/lib/mongooseim'}/${FOLDER}/*/`)].toSorted(),
  };
}

/** Beside Mnesia's data, or the folder in the options. */
function queuesBeside(app: string | undefined): string[] {
  const text = app !== undefined && existsSync(app) ? readFileSync(app, 'utf8') : '';
  const own = /xmpp_event_pusher[\s\S]*?\{\s*dir\s*,\s*"([^"]+)"/.exec(text)?.[1];
  const mnesia = /^[^%\n]*\{\s*mnesia\s*,\s*\[\s*\{\s*dir\s*,\s*"([^"]+)"/m.exec(text)?.[1];
  const folders = own === undefined ? [mnesia ?? '/var/lib/mongooseim'].map((one) => path.join(one, FOLDER)) : [own];
  return folders.flatMap((folder) => globSync(`${folder}/*/`));
}
