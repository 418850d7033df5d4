/** `adapter`: puts the module for an XMPP server where that server looks for it, and checks the way from there to the tap. */
import { Command, Option } from 'commander';
import { adapterCheck } from './adapter-check.ts';
import { type AdapterName, adapterInstall, isAdapterName } from './adapter-install.ts';
import { configOption } from './options.ts';

export function adapterCommand(): Command {
  return new Command('adapter')
    .description('Install the adapter into an XMPP server on this machine, and check the way from there to the tap.')
    .addCommand(installCommand())
    .addCommand(checkCommand());
}

function installCommand(): Command {
  return new Command('install')
    .description('Copy the adapter where the server looks for modules, and print what to write into its configuration.')
    .argument('<server>', 'prosody or ejabberd')
    .addOption(configOption())
    .option('--to <folder>', "the server's folder for modules; without it the server is asked")
    .action((server: string, options: { config: string; to?: string }, command: Command) => {
      if (!isAdapterName(server)) command.error(`error: there is no adapter for "${server}": prosody or ejabberd`);
      for (const line of adapterInstall(server as AdapterName, options)) process.stdout.write(`${line}\n`);
    });
}

function checkCommand(): Command {
  return new Command('check')
    .description('Post an empty batch to the tap, as the adapter would, and say what is wrong when that fails.')
    .addOption(configOption())
    .addOption(new Option('--url <url>', "the adapter's url, where this machine has no pusher.toml"))
    .addOption(new Option('--secret <secret>', "the adapter's secret, likewise").env('EVENT_PUSHER_SECRET'))
    .action(async (options: { config: string; url?: string; secret?: string }) => {
      const { ok, text } = await adapterCheck(options);
      process.stdout.write(`${ok ? 'ok  ' : 'FAIL'}  ${text}\n`);
      if (!ok) process.exitCode = 1;
    });
}
