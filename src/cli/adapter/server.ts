/** What the commands need of an XMPP server. Each server is one module that implements it. */

export interface AdapterServer {
  readonly name: string;
  /** What is there of the adapter. @throws PusherError ADAPTER_INSTALL when the server can't say where it looks */
  find(where: Where): FoundAdapter;
  /** Whether there is such a server on this machine. */
  present(): boolean;
  /**
   * Copies the adapter; answers what to print.
   * @param options.configure whether to write into the server's configuration what fits into a file of its own, and to
   * load the adapter into the running server where that can be done
   */
  install(tap: TapAccess, where: Where, options?: { readonly configure: boolean }): Printed;
  /** Removes the adapter, but neither its queue nor what people wrote into configurations; answers what to print. */
  uninstall(where: Where): Printed;
}

/** Where a server lies, as far as it can't be asked. */
export interface Where {
  /** The server's folder for modules. */
  readonly to?: string;
  /** `prosody.cfg.lua`, `ejabberdctl.cfg` or `mongooseim.toml`. */
  readonly serverConfig?: string;
}

/** The tap as an adapter has to know it. */
export interface TapAccess {
  readonly url: string;
  readonly secret: string;
}

export interface Printed {
  readonly lines: readonly string[];
  /** False when something is left that somebody has to mend. */
  readonly ok: boolean;
}

export interface FoundAdapter {
  /** Copies of the adapter that the server could load, the one that it does load first. */
  readonly copies: readonly Copy[];
  /** What its configuration says, for each domain or for all of them. */
  readonly settings: readonly Settings[];
  /** The adapter's queues, one for each domain that ever had it. */
  readonly queues: readonly string[];
  /** What keeps it from working, in words for an operator. */
  readonly problems: readonly string[];
}

export interface Copy {
  readonly path: string;
  readonly version: string;
}

export interface Settings {
  /** The domain; undefined for all domains of the server. */
  readonly domain: string | undefined;
  /** Where they stand. */
  readonly file: string;
  readonly url: string | undefined;
  readonly secret: string | undefined;
}
