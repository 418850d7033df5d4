/** The interface of XMPP servers for the commands. A module for each server implements it. */

export interface AdapterServer {
  readonly name: string;
  /** Finds the installed adapter. @throws PusherError ADAPTER_INSTALL when the server can't report its folders */
  find(where: Where): FoundAdapter;
  /** Whether this machine has such a server. */
  present(): boolean;
  /**
   * Copies the adapter; returns the text to print.
   * @param options.configure whether to write the server's configuration where a separate file is enough, and to load
   * the adapter into the running server where possible
   */
  install(tap: TapAccess, where: Where, options?: { readonly configure: boolean }): Printed;
  /** Removes the adapter, but not its queue or people's own configuration; returns the text to print. */
  uninstall(where: Where): Printed;
}

/** A server's paths, where it can't report them. */
export interface Where {
  /** The server's folder for modules. */
  readonly to?: string;
  /** `prosody.cfg.lua`, `ejabberdctl.cfg` or `mongooseim.toml`. */
  readonly serverConfig?: string;
}

/** The tap's data that an adapter needs. */
export interface TapAccess {
  readonly url: string;
  readonly secret: string;
}

export interface Printed {
  readonly lines: readonly string[];
  /** False if a person must fix something. */
  readonly ok: boolean;
}

export interface FoundAdapter {
  /** Copies of the adapter that the server could load; it loads the first. */
  readonly copies: readonly Copy[];
  /** Its options in the server's configuration, for each domain or for all. */
  readonly settings: readonly Settings[];
  /** The adapter's queues, one for each domain that ever had it. */
  readonly queues: readonly string[];
  /** Problems that keep it from working, in words for an operator. */
  readonly problems: readonly string[];
  /** Things that may be intended. */
  readonly warnings?: readonly string[];
}

export interface Copy {
  readonly path: string;
  readonly version: string;
}

export interface Settings {
  /** The domain; undefined for all domains of the server. */
  readonly domain: string | undefined;
  /** Their file. */
  readonly file: string;
  readonly url: string | undefined;
  readonly secret: string | undefined;
}
