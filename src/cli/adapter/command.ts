/** `adapter`: installs the module for an XMPP server, and checks the path from there to the tap. */
import { Argument, Command, Option } from 'commander';
import { findConfig } from '../../config/find.ts';
import { configurable } from '../options.ts';
import { adapterCheck } from './check.ts';
import { adapterInstall } from './install.ts';
import type { AdapterServer, Printed, Where } from './server.ts';
import { SERVERS } from './servers.ts';
import { adapterStatus, type Line } from './status.ts';
import { knownTap, type TapOptions } from './tap.ts';

export function adapterCommand(): Command {
  return new Command('adapter')
    .description('Install the adapter into an XMPP server on this machine, and check the way from there to the tap.')
    .addCommand(installCommand())
    .addCommand(statusCommand())
    .addCommand(checkCommand())
    .addCommand(uninstallCommand());
}

function installCommand(): Command {
  return configurable(new Command('install'))
    .description('Copy the adapter where the server looks for modules, and print what to write into its configuration.')
    .addArgument(serverArgument())
    .addOption(urlOption())
    .addOption(secretOption())
    .addOption(toOption())
    .addOption(serverConfigOption())
    .option('--configure', 'write the configuration too where it fits into a file of its own, and load the adapter')
    .action((name: string, options: TapOptions & Where & { configure?: boolean }) =>
      print(adapterInstall(serverOf(name), options, options)),
    );
}

function statusCommand(): Command {
  return configurable(new Command('status'))
    .description('Say which adapter is installed, what it is told, what waits in it, and whether the tap takes it.')
    .addArgument(serverArgument())
    .addOption(urlOption())
    .addOption(secretOption())
    .addOption(caOption())
    .addOption(toOption())
    .addOption(serverConfigOption())
    .action(async (name: string, options: TapOptions & Where & { ca?: string }) => {
      const { url, ca, envFile } = options;
      // The XMPP server's machine may have no configuration; the tap itself knows its secret.
      const tap = url !== undefined || findConfig(options.config) !== undefined ? knownTap(options) : undefined;
      for await (const line of adapterStatus(serverOf(name), { where: options, tap, ca, envFile })) show(line);
    });
}

function checkCommand(): Command {
  return configurable(new Command('check'))
    .description('Post an empty batch to the tap, as the adapter would, and say what is wrong when that fails.')
    .addOption(urlOption())
    .addOption(secretOption())
    .addOption(caOption())
    .action(async (options: TapOptions & { ca?: string }) => {
      const { url, secret, ca } = options;
      const known = url === undefined ? knownTap(options) : { url, secret };
      const { ok, text } = await adapterCheck({ tap: known, ca });
      show({ level: ok ? 'ok' : 'fail', text });
    });
}

function uninstallCommand(): Command {
  return new Command('uninstall')
    .description('Remove the adapter, and say what to delete from the configuration. Its queue stays.')
    .addArgument(serverArgument())
    .addOption(toOption())
    .addOption(serverConfigOption())
    .action((name: string, where: Where) => print(serverOf(name).uninstall(where)));
}

const serverArgument = () => new Argument('<server>', 'the XMPP server').choices(SERVERS.map(({ name }) => name));

const serverOf = (name: string): AdapterServer => SERVERS.find((server) => server.name === name) as AdapterServer;

const urlOption = () =>
  new Option('--url <url>', "the tap of a daemon elsewhere; without it, the configuration's").conflicts([
    'config',
    'envFile',
  ]);

const secretOption = () =>
  new Option('--secret <secret>', "that tap's secret; the environment does not show it to others").env(
    'EVENT_PUSHER_SECRET',
  );

export const toOption = () =>
  new Option('--to <folder>', "the server's folder for modules; without it the server is asked");

export const serverConfigOption = () =>
  new Option(
    '--server-config <file>',
    'prosody.cfg.lua, ejabberdctl.cfg or mongooseim.toml, where it is not in its usual place',
  );

const caOption = () =>
  new Option('--ca <file>', "certificates of authorities in PEM, to trust instead of the system's");

function print({ lines, ok }: Printed): void {
  for (const line of lines) process.stdout.write(`${line}\n`);
  if (!ok) process.exitCode = 1;
}

function show({ level, text }: Line): void {
  process.stdout.write(`${level === 'fail' ? 'FAIL' : level.padEnd(4)}  ${text}\n`);
  if (level === 'fail') process.exitCode = 1;
}
