/**
 * Where an ejabberd on this machine keeps contributed modules, their options and its data, as `ejabberdctl` knows it.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, globSync, statSync } from 'node:fs';
import path from 'node:path';
import { PusherError } from '../../../errors.ts';
import { assertReadable } from '../files.ts';
import type { Where } from '../server.ts';

export interface Places {
  /** Contributed modules: `sources/NAME` is what `module_install` compiles into `NAME`. */
  readonly modules: string;
  /** Options of contributed modules, one file each; they take precedence over the modules' own. */
  readonly options: string;
  /** `ejabberd.yml`; undefined where its path is unknown. */
  readonly config: string | undefined;
  /** Folders in which ejabberd finds compiled modules without installing them. */
  readonly beams: readonly string[];
  /** The adapter's queues. */
  readonly queues: readonly string[];
  /** ejabberd's group. */
  readonly gid: number | undefined;
  /** Whether `ejabberdctl.cfg` sets another folder for modules than requested. */
  readonly unknown: boolean;
}

const CTL_CONFIGS = ['/etc/ejabberd/ejabberdctl.cfg', '/opt/ejabberd/conf/ejabberdctl.cfg', '/etc/default/ejabberd'];
const VARIABLES = [
  'CONTRIB_MODULES_PATH',
  'CONTRIB_MODULES_CONF_DIR',
  'EJABBERD_CONFIG_PATH',
  'SPOOL_DIR',
  'ERL_OPTIONS',
] as const;

/** @throws PusherError ADAPTER_INSTALL when there is neither an ejabberd nor a folder given */
export function placesOf({ to, serverConfig }: Where): Places {
  if (serverConfig !== undefined && !existsSync(serverConfig))
    throw new PusherError('ADAPTER_INSTALL', `there is no ${serverConfig}`);
  const user = passwd();
  const ctl = serverConfig ?? CTL_CONFIGS.find((file) => existsSync(file));
  const set = ctl === undefined ? undefined : variables(ctl, user?.home);
  const configured =
    set?.CONTRIB_MODULES_PATH ?? (user === undefined ? undefined : path.join(user.home, '.ejabberd-modules'));
  const modules = to === undefined ? configured : path.resolve(to);
  if (modules === undefined)
    throw new PusherError(
      'ADAPTER_INSTALL',
      "found no ejabberdctl.cfg and no user ejabberd: run this on ejabberd's machine, or pass its CONTRIB_MODULES_PATH with --to (default: .ejabberd-modules in the home folder of its user)",
    );
  const own = modules === configured;
  const spools = [set?.SPOOL_DIR ?? '/var/lib/ejabberd', ...(set?.SPOOL_DIR ? [] : ['/opt/ejabberd/database'])];
  const config =
    set?.EJABBERD_CONFIG_PATH ?? (ctl === undefined ? undefined : path.join(path.dirname(ctl), 'ejabberd.yml'));
  // With a folder given, nothing else needs to be read.
  if (to === undefined)
    for (const each of [ctl, config, path.dirname(modules), modules]) if (each !== undefined) assertReadable(each);
  return {
    modules,
    options: (own ? set?.CONTRIB_MODULES_CONF_DIR : undefined) ?? path.join(modules, 'conf'),
    config: config !== undefined && existsSync(config) ? config : undefined,
    beams: [...pathsIn(set?.ERL_OPTIONS ?? ''), ...globSync('/usr/lib/{*/,}ejabberd*/ebin')],
    queues: spools.flatMap((spool) => globSync(`${spool}/{,*/}event_pusher/*/`)).toSorted(),
    gid: user?.gid ?? (config !== undefined && existsSync(config) ? statSync(config).gid : undefined),
    unknown: !own,
  };
}

function passwd(): { home: string; gid: number } | undefined {
  const { status, stdout } = spawnSync('getent', ['passwd', 'ejabberd'], { encoding: 'utf8' });
  const fields = stdout?.split(':') ?? [];
  return status === 0 && fields[5] ? { home: fields[5], gid: Number(fields[3]) } : undefined;
}

type Variables = Partial<Record<(typeof VARIABLES)[number], string>>;

/** The settings in a file of `ejabberdctl`. It is a shell script, so a shell reads it, as in `ejabberdctl`. */
function variables(file: string, home = '/nonexistent'): Variables {
  const script = `. "$0" >&2; printf '%s\\0' ${VARIABLES.map((name) => `"$${name}"`).join(' ')}`;
  const env = { PATH: process.env.PATH, HOME: home };
  const { status, stdout, stderr } = spawnSync('sh', ['-c', script, path.resolve(file)], { encoding: 'utf8', env });
  if (status !== 0) throw new PusherError('ADAPTER_INSTALL', `can't read ${file}: ${stderr.trim()}`);
  const values = stdout.split('\0');
  return Object.fromEntries(VARIABLES.map((name, index) => [name, values[index]]).filter(([, value]) => value));
}

/** The folders of `-pa` and `-pz` in options of `erl`. */
const pathsIn = (options: string): string[] =>
  [...options.matchAll(/-p[az]\s+["']?([^"'\s]+)/g)].map(([, folder]) => folder as string);
