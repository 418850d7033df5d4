/** The part of @xmpp/client (which brings no types) that the tests use. */
declare module '@xmpp/client' {
  import type { EventEmitter } from 'node:events';
  import type { Element } from 'ltx';

  export type XmppParser = new () => EventEmitter & { write(data: string): void };

  export interface XmppJsClient extends EventEmitter {
    readonly status: string;
    readonly jid: { toString(): string } | null;
    timeout: number;
    Parser: XmppParser;
    readonly socket: { setEncoding?(encoding: 'utf8'): void; destroy?(): void; socket?: { close(): void } } | null;
    readonly options: { service: string; domain: string };
    readonly reconnect: { stop(): void; reconnect(): Promise<void> };
    readonly streamManagement: EventEmitter & { id: string; enabled: boolean };
    readonly middleware: {
      use(middleware: (context: { stanza: Element }, next: () => Promise<unknown>) => Promise<unknown>): void;
    };
    start(): Promise<unknown>;
    stop(): Promise<unknown>;
    send(stanza: Element): Promise<void>;
  }

  export type Authenticate = (credentials: { username: string; password: string }, mechanism: string) => Promise<void>;

  export function client(options: {
    service: string;
    domain: string;
    resource: string;
    username: string;
    credentials: (authenticate: Authenticate, mechanisms: string[]) => Promise<void>;
  }): XmppJsClient;

  export function xml(
    name: string,
    attrs?: Record<string, string | undefined>,
    ...children: (Element | string)[]
  ): Element;
}
