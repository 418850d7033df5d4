/** The command `adapter` as an operator runs it, in its own folder, with fake servers made of files. */
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { adapterInstall } from '../../src/cli/adapter/install.ts';
import type { AdapterServer, Printed, Where } from '../../src/cli/adapter/server.ts';
import type { TapOptions } from '../../src/cli/adapter/tap.ts';
import { PusherError } from '../../src/errors.ts';
import { BIN } from './daemon.ts';
import { launch } from './process.ts';

export interface Ran {
  readonly code: number | null;
  readonly output: string;
}

export interface Bench extends AsyncDisposable {
  readonly folder: string;
  /**
   * Runs `adapter install` in this process, which is many times faster than a separate process. Uses the folder's
   * `pusher.toml` unless the options name another.
   */
  install(server: AdapterServer, options?: Partial<TapOptions> & Where & { readonly configure?: boolean }): Ran;
  /** The same for `adapter uninstall`. */
  uninstall(server: AdapterServer, where: Where): Ran;
  /** Runs `adapter` with these words, in the folder. */
  adapter(args: readonly string[], env?: NodeJS.ProcessEnv): Promise<Ran>;
  /** Writes a world-readable file, and the folders above it; returns its path. */
  write(name: string, text: string): Promise<string>;
  /** Writes a daemon's configuration with these lines in `[tap.http]`. */
  daemonConfig(...lines: string[]): Promise<string>;
  /** Writes a `prosody.cfg.lua` with these lines, by default with one virtual host. */
  prosodyConfig(global: string, hosts?: string): Promise<string>;
  /** Writes an `ejabberdctl.cfg` like Debian's, and an `ejabberd.yml` with these lines below `modules:`. */
  ejabberdConfig(modules?: string, rest?: string): Promise<string>;
}

export async function createBench(): Promise<Bench> {
  const folder = await mkdtemp(path.join(tmpdir(), 'adapter-'));
  // Started by root, prosodyctl becomes Prosody's user.
  await chmod(folder, 0o755);
  const { EVENT_PUSHER_SECRET: _, ...clean } = process.env;

  const write = async (name: string, text: string) => {
    const file = path.join(folder, name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, text);
    await chmod(file, 0o644);
    return file;
  };
  return {
    folder,
    write,
    install: (server, options = {}) => {
      const tap = { ...options, config: options.config ?? path.join(folder, 'pusher.toml') };
      return printed(() => adapterInstall(server, tap, options));
    },
    uninstall: (server, where) => printed(() => server.uninstall(where)),
    async adapter(args, env = {}) {
      const run = await launch(process.execPath, [BIN, 'adapter', ...args], { cwd: folder, env: { ...clean, ...env } });
      return { code: await run.exited, output: run.output() };
    },
    daemonConfig: (...lines) => write('pusher.toml', `[tap.http]\n${lines.map((line) => `  ${line}\n`).join('')}`),
    prosodyConfig: (global, hosts = 'VirtualHost "localhost"') =>
      write('prosody.cfg.lua', `data_path = "${folder}/data"\n${global}\n${hosts}\n`),
    async ejabberdConfig(modules = '', rest = '') {
      await write('ejabberd.yml', `hosts:\n  - localhost\nmodules:\n  mod_disco: {}\n${modules}\n${rest}\n`);
      await mkdir(path.join(folder, 'modules.d'), { recursive: true });
      const set = {
        ERL_OPTIONS: '"-env ERL_CRASH_DUMP_BYTES 0"',
        SPOOL_DIR: `${folder}/spool`,
        EJABBERD_CONFIG_PATH: `${folder}/ejabberd.yml`,
        CONTRIB_MODULES_PATH: `${folder}/ejabberd-modules`,
        CONTRIB_MODULES_CONF_DIR: `${folder}/modules.d`,
      };
      return write(
        'ejabberdctl.cfg',
        Object.entries(set)
          .map(([name, value]) => `${name}=${value}\n`)
          .join(''),
      );
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

function printed(act: () => Printed): Ran {
  try {
    const { lines, ok } = act();
    return { code: ok ? 0 : 1, output: `${lines.join('\n')}\n` };
  } catch (error) {
    if (!(error instanceof PusherError)) throw error;
    return { code: 1, output: `${error.message}\n` };
  }
}
