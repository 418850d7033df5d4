/** What happened on an XMPP server, as an adapter or another tap told it. Known everywhere in the project. */

/** A session became available, or ended being so. */
export interface PresenceEvent {
  readonly kind: 'presence';
  /** `<source>/<epoch>/<seq>`, or a random UUID where the source does not number its events. */
  readonly id: string;
  /** When it happened, in milliseconds since the Unix epoch. */
  readonly at: number;
  /** The XMPP domain (virtual host) it happened on. */
  readonly host: string;
  /** Full JID of the session. */
  readonly jid: string;
  readonly present: boolean;
  /** The trace that it belongs to, as a W3C `traceparent`. */
  readonly traceparent?: string | undefined;
  /** Available sessions of that user on the whole server or cluster after this change; absent where the server can't tell. */
  readonly sessions?: number | undefined;
}

/** A local user's session sent a private (`chat`) or a group (`groupchat`) message that has a `<body/>`. */
export interface MessageEvent {
  readonly kind: 'message';
  /** `<source>/<epoch>/<seq>`, or a random UUID where the source does not number its events. */
  readonly id: string;
  /** When it happened, in milliseconds since the Unix epoch. */
  readonly at: number;
  /** The XMPP domain (virtual host) it happened on. */
  readonly host: string;
  readonly type: 'chat' | 'groupchat';
  /** The trace that it belongs to, as a W3C `traceparent`. */
  readonly traceparent?: string | undefined;
  /** Full JID of the sender's session. */
  readonly from: string;
  /** The address it was sent to: a bare JID, a full JID, a room, or an occupant of a room. */
  readonly to: string;
  /** Text of `<body/>`; may be empty. */
  readonly body: string;
  /** The stanza's `id` attribute, where it had one. */
  readonly stanza_id?: string | undefined;
  /** The whole stanza as XML. */
  readonly stanza?: string | undefined;
}

export type XmppEvent = PresenceEvent | MessageEvent;
