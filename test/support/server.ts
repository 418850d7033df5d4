/** What a test has of a running XMPP server with the adapter in it, whichever server it is. */

export interface XmppServer extends AsyncDisposable {
  readonly name: 'prosody' | 'ejabberd';
  /** The virtual host, always `localhost`. */
  readonly host: string;
  /** The rooms' domain; any user may create a room there by joining it. */
  readonly mucHost: string;
  readonly c2sPort: number;
  readonly boshUrl: string;
  readonly webSocketUrl: string;
  /** The server's own folder; it stays through stop, kill and start, and goes when the server is disposed of. */
  readonly dir: string;
  /** Of the current run. */
  readonly pid: number;
  /** Makes sure that the user exists, with the password `password`. */
  register(user: string): Promise<void>;
  /** SIGTERM; settles when the server is gone. */
  stop(): Promise<void>;
  /** SIGKILL; settles when the server is gone. */
  kill(): Promise<void>;
  /** Again, with the same folder and ports; settles when clients can connect. */
  start(): Promise<void>;
  /** From the next start on, the adapter sends there. */
  setTap(tap: { url: string; secret?: string }): void;
  /** What the server wrote to its log since the first start, the adapter's lines among it. */
  log(): string;
}

/** As much of a server as a client needs. */
export type Reachable = Pick<XmppServer, 'host' | 'c2sPort' | 'boshUrl' | 'webSocketUrl' | 'register'>;

export interface ServerOptions {
  /** The tap's URL, as the adapter's option of that name takes it. */
  url: string;
  /** By default `secret`, as the collector wants it. */
  secret?: string;
  /** Events that the adapter's queue holds at most; the adapter's own default when left out. */
  queueMax?: number;
  /** Seconds that a connection may stay cut before its stream-managed session ends; 600 when left out. */
  resumeSeconds?: number;
  /** Seconds between attempts after a 400 or 401; 0.5 when left out, so that tests needn't wait. */
  slowRetrySeconds?: number;
  /** Seconds that the adapter waits for an answer; its own default when left out. */
  answerSeconds?: number;
  /** False: the server runs without the adapter. */
  adapter?: boolean;
  /** Files of a certificate and its key, PEM: with them, clients must use TLS; without them they can't. */
  tls?: { readonly cert: string; readonly key: string };
  /** File of the certificates, PEM, whose taps the adapter trusts beside its server's own. */
  trust?: string;
  /** More lines for the virtual host's part of the server's configuration, in that server's syntax. */
  settings?: string;
}

export type StartServer = (options: ServerOptions) => Promise<XmppServer>;

/** Every test user's. */
export const password = 'pencil';
