/** A running XMPP server with the adapter, the same for all servers. */

export interface XmppServer extends AsyncDisposable {
  readonly name: 'prosody' | 'ejabberd';
  /** The virtual host, always `localhost`. */
  readonly host: string;
  /** The rooms' domain; any user may create a room there by joining it. */
  readonly mucHost: string;
  readonly c2sPort: number;
  readonly boshUrl: string;
  readonly webSocketUrl: string;
  /** The server's own folder; kept through stop, kill and start, deleted on disposal. */
  readonly dir: string;
  /** Of the current run. */
  readonly pid: number;
  /** Creates the user, with the password `password`, unless it exists. */
  register(user: string): Promise<void>;
  /** SIGTERM; settles when the server is gone. */
  stop(): Promise<void>;
  /** SIGKILL; settles when the server is gone. */
  kill(): Promise<void>;
  /** Restarts with the same folder and ports; settles when clients can connect. */
  start(): Promise<void>;
  /** Sets the adapter's tap from the next start on. */
  setTap(tap: { url: string; secret?: string }): void;
  /** The server's log since the first start, including the adapter's lines. */
  log(): string;
}

/** The part of a server that a client needs. */
export type Reachable = Pick<XmppServer, 'host' | 'c2sPort' | 'boshUrl' | 'webSocketUrl' | 'register'>;

export interface ServerOptions {
  /** The tap's URL, for the adapter's option. */
  url: string;
  /** Default: `secret`, as the collector expects. */
  secret?: string;
  /** Maximum number of events in the adapter's queue; default: the adapter's own. */
  queueMax?: number;
  /** Seconds until a cut stream-managed session ends; default: 600. */
  resumeSeconds?: number;
  /** Seconds between retries after a 400 or 401; default: 0.5, so that tests don't wait. */
  slowRetrySeconds?: number;
  /** Seconds that the adapter waits for an answer; default: the adapter's own. */
  answerSeconds?: number;
  /** Seconds between two log lines about the same trouble; the adapter's own minute when left out. */
  logSeconds?: number;
  /** False: runs the server without the adapter. */
  adapter?: boolean;
  /** PEM files of a certificate and its key: with them clients must use TLS, without them they can't. */
  tls?: { readonly cert: string; readonly key: string };
  /** PEM file of certificates that the adapter trusts, besides its server's own. */
  trust?: string;
  /** More lines for the virtual host's configuration, in the server's syntax. */
  settings?: string;
}

export type StartServer = (options: ServerOptions) => Promise<XmppServer>;

/** The password of every test user. */
export const password = 'pencil';
