/** `adapter`: installs the module for an XMPP server, and checks the path from there to the tap. */
import { Argument, Command, Option } from 'commander';
import { printableLines } from '../../format.js';
import { configurable } from '../options.ts';
import { adapterCheck } from './check.ts';
import { adapterInstall } from './install.ts';
import type { AdapterServer, Printed, Where } from './server.ts';
import { SERVERS } from './servers.ts';
import { adapterStatus, type Line } from './status.ts';
import { assertUsable, configOf, knownTap, type TapOptions } from './tap.ts';

export function adapterCommand(): Command {
  return new Command('adapter')
    .description('Install the adapter in an XMPP server on this machine, and check its connection to the tap.')
    .addCommand(installCommand())
    .addCommand(statusCommand())
    .addCommand(checkCommand())
    .addCommand(uninstallCommand());
}

function installCommand(): Command {
  return configurable(new Command('install'))
    .description("Copy the adapter into the server's module folder, and print what to add to its configuration.")
    .addArgument(serverArgument())
    .addOption(urlOption())
    .addOption(secretOption())
    .addOption(toOption())
    .addOption(serverConfigOption())
    .option('--configure', 'also write the configuration, if it fits in a separate file, and load the adapter')
    .action((name: string, options: TapOptions & Where & { configure?: boolean }) =>
      print(adapterInstall(serverOf(name), options, options)),
    );
}

function statusCommand(): Command {
  return configurable(new Command('status'))
    .description('Show the installed adapter, its settings, its queue, and whether the tap accepts its secret.')
    .addArgument(serverArgument())
    .addOption(urlOption())
    .addOption(secretOption())
    .addOption(caOption())
    .addOption(toOption())
    .addOption(serverConfigOption())
    .action(async (name: string, options: TapOptions & Where & { ca?: string }) => {
      const { url, ca, envFile } = options;
      // The XMPP server's machine may have no configuration; the tap itself knows its secret.
      const tap = url !== undefined || configOf(options) !== undefined ? knownTap(options) : undefined;
      for await (const line of adapterStatus(serverOf(name), { where: options, tap, ca, envFile })) show(line);
    });
}

function checkCommand(): Command {
  return configurable(new Command('check'))
    .description('Post an empty batch to the tap, as the adapter would, and explain any failure.')
    .addOption(urlOption())
    .addOption(secretOption())
    .addOption(caOption())
    .action(async (options: TapOptions & { ca?: string }) => {
      const { url, secret, ca } = options;
      assertUsable(secret);
      const known = url === undefined ? knownTap(options) : { url, secret };
      const { ok, text } = await adapterCheck({ tap: known, ca });
      show({ level: ok ? 'ok' : 'fail', text });
    });
}

function uninstallCommand(): Command {
  return new Command('uninstall')
    .description('Remove the adapter, and print what to delete from the configuration. Its queue stays on disk.')
    .addArgument(serverArgument())
    .addOption(toOption())
    .addOption(serverConfigOption())
    .action((name: string, where: Where) => print(serverOf(name).uninstall(where)));
}

const serverArgument = () => new Argument('<server>', 'the XMPP server').choices(SERVERS.map(({ name }) => name));

const serverOf = (name: string): AdapterServer => SERVERS.find((server) => server.name === name) as AdapterServer;

const urlOption = () =>
  new Option('--url <url>', 'URL of the tap, if the daemon is elsewhere (default: from the configuration)').conflicts([
    'config',
    'envFile',
  ]);

const secretOption = () =>
  new Option('--secret <secret>', "secret of that tap; other users can't see it in the environment").env(
    'EVENT_PUSHER_SECRET',
  );

export const toOption = () => new Option('--to <folder>', "the server's module folder (default: ask the server)");

export const serverConfigOption = () =>
  new Option(
    '--server-config <file>',
    'path of prosody.cfg.lua, ejabberdctl.cfg or mongooseim.toml, if not in its usual place',
  );

const caOption = () =>
  new Option('--ca <file>', "PEM file of certificate authorities to trust instead of the system's");

function print({ lines, ok }: Printed): void {
  for (const line of lines) process.stdout.write(`${line}\n`);
  if (!ok) process.exitCode = 1;
}

function show({ level, text }: Line): void {
  // Sources, servers and proxies choose parts of the text.
  process.stdout.write(`${level === 'fail' ? 'FAIL' : level.padEnd(4)}  ${printableLines(text)}\n`);
  if (level === 'fail') process.exitCode = 1;
}
