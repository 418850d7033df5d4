/** `adapter install`: copies an adapter to its server's modules, and prints the lines for the configurations. */
import type { AdapterServer, Printed, TapAccess, Where } from './server.ts';
import { type InstalledTap, knownTap, newSecret, secretForDaemon, statusLine, type TapOptions } from './tap.ts';

/**
 * Installs; returns the text to print.
 * @throws PusherError ADAPTER_INSTALL when the server can't report its folders, or the folder can't be written
 */
export function adapterInstall(
  server: AdapterServer,
  options: TapOptions & { readonly configure?: boolean },
  where: Where,
): Printed {
  const known = knownTap(options, () => installedTap(server, where));
  const { url, secret, from, section } = known;
  const daemonHas = secret !== undefined && (!section || section.options.secret !== undefined);
  // A daemon that has no secret gets the one that an adapter has already.
  const tap: TapAccess = { url, secret: secret ?? formerSecret(server, where) ?? newSecret() };
  const { lines, ok } = server.install(tap, where, { configure: options.configure === true });
  const daemon = daemonHas ? ['', `The secret is the one in ${from}.`] : secretForDaemon(tap, known);
  return {
    lines: [
      ...lines,
      ...daemon,
      '',
      'Afterwards, check the installation:',
      '',
      `  ${statusLine(server.name, options, known, where)}`,
    ],
    ok,
  };
}

function formerSecret(server: AdapterServer, where: Where): string | undefined {
  return server.find(where).settings.find(({ secret }) => secret !== undefined)?.secret;
}

/** The tap that an installed adapter's options agree on. */
function installedTap(server: AdapterServer, where: Where): InstalledTap | undefined {
  const [first, ...others] = server.find(where).settings;
  if (first?.url === undefined || first.secret === undefined) return undefined;
  const { url, secret, file } = first;
  return others.every((each) => each.url === url && each.secret === secret) ? { url, secret, from: file } : undefined;
}
