/** Determines an adapter's tap: from a configuration on this machine, or one elsewhere. */
import { randomBytes, X509Certificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import path from 'node:path';
import { oddCharacter } from '../../config/characters.ts';
import { commandTo } from '../../config/commands.ts';
import { type HttpTapSection, loadHttpTap } from '../../config/load.ts';
import type { HttpTapOptions } from '../../config/options.ts';
import { PusherError } from '../../errors.ts';
import { shellWord, tomlString } from '../../quote.ts';
import { type ConfigFlags, findOwnConfig, isExample, withEnvFile } from '../configuration.ts';
import type { TapAccess, Where } from './server.ts';

export interface TapOptions extends ConfigFlags {
  readonly url?: string;
  readonly secret?: string;
}

/** The tap in the options of an installed adapter. */
export type InstalledTap = Pick<KnownTap, 'url' | 'secret' | 'from'>;

/** A tap, as far as it is known. */
export interface KnownTap {
  readonly url: string;
  /** Undefined if the daemon has none. */
  readonly secret: string | undefined;
  /** The origin of both, for messages. */
  readonly from: string;
  /** The configuration, if this machine has it. */
  readonly config: string | undefined;
  /** The section `tap.http`, if this machine has the configuration. */
  readonly section: HttpTapSection | undefined;
}

/**
 * The tap from the options `--url` and `--secret` for a daemon elsewhere, otherwise from the configuration. It doesn't
 * guess, because an adapter with a secret unknown to the daemon would wait for ever.
 * @param installed the tap of an adapter that is installed, if there is no configuration: its daemon is elsewhere
 * @throws PusherError ADAPTER_INSTALL when something is missing, CONFIG_UNREADABLE or CONFIG_INVALID
 */
export function knownTap(options: TapOptions, installed: () => InstalledTap | undefined = () => undefined): KnownTap {
  const { url, secret } = options;
  assertUsable(secret);
  if (url !== undefined && !(/^https?:\/\/[^/]/.test(url) && URL.canParse(url)))
    throw fault(`${url} is not the URL of a tap, which looks like http://127.0.0.1:5290/v1/events`);
  if (url !== undefined && secret !== undefined)
    return { url, secret, from: '--url and --secret', config: undefined, section: undefined };
  if (url !== undefined)
    throw fault('--url names another daemon: pass its tap.http.secret too, with --secret or EVENT_PUSHER_SECRET');
  const config = configOf(options);
  if (config === undefined || !existsSync(config)) {
    const present = options.config === undefined ? installed() : undefined;
    if (present) return { ...present, secret: secret ?? present.secret, config: undefined, section: undefined };
    throw fault(
      `there is no ${config ?? 'configuration'} here: pass the daemon's configuration with --config or, for a daemon on another machine, its tap with --url and --secret`,
    );
  }
  const section = withEnvFile(config, options, () => loadHttpTap(config));
  if (secret !== undefined && section.options.secret !== undefined && secret !== section.options.secret)
    throw fault(
      `--secret (or EVENT_PUSHER_SECRET) is not the tap.http.secret of ${config}: leave it out, or pass --url too`,
    );
  return {
    url: tapUrl(section.options, path.dirname(config)),
    secret: secret ?? section.options.secret,
    from: config,
    config,
    section,
  };
}

/** A command's configuration. The example in the package, as on a machine with an adapter only, counts as none. */
export function configOf(options: ConfigFlags): string | undefined {
  const file = findOwnConfig(options);
  return file !== undefined && options.config === undefined && isExample(file) ? undefined : file;
}

/** Refuses a given secret that no tap can have, without showing it. @throws PusherError ADAPTER_INSTALL */
export function assertUsable(secret: string | undefined): void {
  const problem = secret === '' ? 'is empty' : oddCharacter(secret ?? '');
  if (problem !== undefined) throw fault(`the secret of --secret or EVENT_PUSHER_SECRET ${problem}`);
}

/** A secret for a daemon that has none. */
export const newSecret = (): string => randomBytes(24).toString('base64url');

/** The lines that give a configuration a secret. */
export function secretForDaemon({ secret }: TapAccess, { config, section }: KnownTap): string[] {
  const line = `secret = ${tomlString(secret)}`;
  const [title, ...lines] = section?.written
    ? [`Add directly below the line [tap.http] of ${config}, so that the daemon knows the secret:`, `  ${line}`]
    : [`Add at the end of ${config}, so that the daemon knows the secret:`, '  [tap.http]', `    ${line}`];
  return ['', title, '', ...lines, '', 'and restart the daemon.'];
}

/** The options for a server's paths, which stay right in another folder. */
export const whereWords = ({ to, serverConfig }: Where): string[] => [
  ...(to === undefined ? [] : ['--to', path.resolve(to)]),
  ...(serverConfig === undefined ? [] : ['--server-config', path.resolve(serverConfig)]),
];

/**
 * The command line of `adapter status` for the same tap and server. The secret is passed in the environment, which `ps`
 * doesn't show.
 */
export function statusLine(server: string, { url, secret }: TapOptions, { config }: KnownTap, where: Where): string {
  const words = ['adapter', 'status', server, ...(url === undefined ? [] : ['--url', url]), ...whereWords(where)];
  const environment = url === undefined || secret === undefined ? '' : `EVENT_PUSHER_SECRET=${shellWord(secret)} `;
  return environment + commandTo(words, url === undefined ? config : undefined);
}

/** The tap's URL for an adapter on this machine. */
function tapUrl(tap: HttpTapOptions, folder: string): string {
  const { host, port } = tap.listen;
  const anywhere = host === '0.0.0.0' || host === '::';
  const address = anywhere ? '127.0.0.1' : host;
  const name = tap.tls_cert === undefined ? address : certifiedName(path.resolve(folder, tap.tls_cert), address);
  return `${tap.tls_cert === undefined ? 'http' : 'https'}://${name.includes(':') ? `[${name}]` : name}:${port}/v1/events`;
}

/**
 * The host name for adapters, which verify it: the address if the certificate has it, otherwise the certificate's name.
 */
function certifiedName(file: string, address: string): string {
  if (!existsSync(file)) return address;
  const certificate = new X509Certificate(readFileSync(file));
  if (isIP(address) ? certificate.checkIP(address) : certificate.checkHost(address)) return address;
  return /DNS:([^*,\s"]+)/.exec(certificate.subjectAltName ?? '')?.[1] ?? address;
}

const fault = (message: string, cause?: unknown) => new PusherError('ADAPTER_INSTALL', message, cause);
