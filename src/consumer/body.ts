/** Published messages, parsed. Made by `npm run docs`; a test fails when it is stale. */

/** A user came online or went offline. */
export interface PresenceBody {
  /** the user: a bare JID in lower case, or what the plugin makes of it */
  readonly user_id: string;
  /** whether the user is online from now on */
  readonly present: boolean;
  /** presence, pm or muc */
  readonly type?: 'presence' | 'pm' | 'muc';
  /** the XMPP domain (virtual host) */
  readonly host?: string;
  /** whose event it is: the session of a presence, the sender of a message, as the event has it */
  readonly user?: string;
  /** … without resource, in lower case */
  readonly 'user.bare'?: string;
  /** … the part before the @, in lower case */
  readonly 'user.local'?: string;
  /** … its domain, in lower case */
  readonly 'user.domain'?: string;
  /** … its resource; in a room the nickname */
  readonly 'user.resource'?: string;
  /** the sender of a message, as the event has it */
  readonly from?: string;
  /** … without resource, in lower case */
  readonly 'from.bare'?: string;
  /** … the part before the @, in lower case */
  readonly 'from.local'?: string;
  /** … its domain, in lower case */
  readonly 'from.domain'?: string;
  /** … its resource; in a room the nickname */
  readonly 'from.resource'?: string;
  /** the address that a message was sent to, as the event has it */
  readonly to?: string;
  /** … without resource, in lower case */
  readonly 'to.bare'?: string;
  /** … the part before the @, in lower case */
  readonly 'to.local'?: string;
  /** … its domain, in lower case */
  readonly 'to.domain'?: string;
  /** … its resource; in a room the nickname */
  readonly 'to.resource'?: string;
  /** the room of a group message, without resource, in lower case */
  readonly room?: string;
  /** the user's available sessions after a presence, where the server can tell */
  readonly sessions?: number;
  /** the id of the event, the same each time that it is sent: <source>/<epoch>/<number>, or a UUID from a source that does not number its events */
  readonly event_id?: string;
  /** the XMPP server node */
  readonly source?: string;
  /** one run of the adapter on that node */
  readonly epoch?: string;
  /** the event's number in that run: 1, 2, 3 … */
  readonly seq?: number;
  /** when it happened on the server, milliseconds since 1970 */
  readonly timestamp?: number;
  /** the same as 2025-11-22T14:03:11.340Z (RFC 3339) */
  readonly time?: string;
  /** the stanza's id, of messages whose client set one */
  readonly stanza_id?: string;
  /** the text of a message's <thread/> */
  readonly thread?: string;
  /** a message's xml:lang */
  readonly lang?: string;
  /** how many characters (Unicode code points) a message has */
  readonly 'body.length'?: number;
  /** the W3C trace context that the event came with */
  readonly traceparent?: string;
}

/** A user sent a message. */
export interface MessageBody {
  /** the recipient or the room: a bare JID in lower case, or what the plugin makes of it */
  readonly to_user_id: string;
  /** the text of <body/>; may be empty */
  readonly message: string;
  /** the sender: a bare JID in lower case, or what the plugin makes of it */
  readonly from_user_id: string;
  /** presence, pm or muc */
  readonly type?: 'presence' | 'pm' | 'muc';
  /** the XMPP domain (virtual host) */
  readonly host?: string;
  /** whose event it is: the session of a presence, the sender of a message, as the event has it */
  readonly user?: string;
  /** … without resource, in lower case */
  readonly 'user.bare'?: string;
  /** … the part before the @, in lower case */
  readonly 'user.local'?: string;
  /** … its domain, in lower case */
  readonly 'user.domain'?: string;
  /** … its resource; in a room the nickname */
  readonly 'user.resource'?: string;
  /** the sender of a message, as the event has it */
  readonly from?: string;
  /** … without resource, in lower case */
  readonly 'from.bare'?: string;
  /** … the part before the @, in lower case */
  readonly 'from.local'?: string;
  /** … its domain, in lower case */
  readonly 'from.domain'?: string;
  /** … its resource; in a room the nickname */
  readonly 'from.resource'?: string;
  /** the address that a message was sent to, as the event has it */
  readonly to?: string;
  /** … without resource, in lower case */
  readonly 'to.bare'?: string;
  /** … the part before the @, in lower case */
  readonly 'to.local'?: string;
  /** … its domain, in lower case */
  readonly 'to.domain'?: string;
  /** … its resource; in a room the nickname */
  readonly 'to.resource'?: string;
  /** the room of a group message, without resource, in lower case */
  readonly room?: string;
  /** the id of the event, the same each time that it is sent: <source>/<epoch>/<number>, or a UUID from a source that does not number its events */
  readonly event_id?: string;
  /** the XMPP server node */
  readonly source?: string;
  /** one run of the adapter on that node */
  readonly epoch?: string;
  /** the event's number in that run: 1, 2, 3 … */
  readonly seq?: number;
  /** when it happened on the server, milliseconds since 1970 */
  readonly timestamp?: number;
  /** the same as 2025-11-22T14:03:11.340Z (RFC 3339) */
  readonly time?: string;
  /** the stanza's id, of messages whose client set one */
  readonly stanza_id?: string;
  /** the text of a message's <thread/> */
  readonly thread?: string;
  /** a message's xml:lang */
  readonly lang?: string;
  /** how many characters (Unicode code points) a message has */
  readonly 'body.length'?: number;
  /** the W3C trace context that the event came with */
  readonly traceparent?: string;
}
